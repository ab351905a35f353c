import { execFile } from 'node:child_process'
import { parseArgs } from 'node:util'
import { eventsFile } from './events.ts'

/**
 * `npm run bench`: the main job beside a bare loop on the same file, by turns in one run, and its latency at a tenth and at
 * half of the load that it bears. `--json` prints one line.
 */
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    events: { type: 'string', default: '2000000' },
    rounds: { type: 'string', default: '3' },
    latency: { type: 'string', default: '15' },
  },
})
const events = Number(values.events)
const rounds = Number(values.rounds)
const latencySeconds = Number(values.latency)

interface Run {
  readonly read: number
  readonly seconds: number
  readonly cpuSeconds: number
  readonly peakMemoryMB: number
  readonly warehouseMemoryMB?: number
}

function run<T>(script: string, ...args: (string | number)[]): Promise<T> {
  const path = new URL(script, import.meta.url).pathname
  return new Promise((resolve, reject) => {
    execFile(process.execPath, ['--conditions=source', path, ...args.map(String)], (error, stdout, stderr) => {
      if (error) reject(new Error(`${script}: ${stderr || error.message}`))
      else resolve(JSON.parse(stdout))
    })
  })
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[sorted.length >> 1]!
}

const path = eventsFile(events)
const say = (text: string) => void (values.json || console.log(text))
const bare: Run[] = []
const whole: Run[] = []
for (let round = 1; round <= rounds; round++) {
  bare.push(await run<Run>('bare-loop.ts', path))
  whole.push(await run<Run>('pipeline-run.ts', path))
  say(
    `round ${round}: bare loop ${Math.round(events / bare.at(-1)!.seconds)}/s, pipeline ${Math.round(events / whole.at(-1)!.seconds)}/s`,
  )
}
const eventsPerSecond = Math.round(events / median(whole.map(({ seconds }) => seconds)))
const bareLoop = Math.round(events / median(bare.map(({ seconds }) => seconds)))
const latencies: Record<string, unknown> = {}
if (latencySeconds > 0) {
  for (const [name, share] of [
    ['tenth', 0.1],
    ['half', 0.5],
  ] as const) {
    const { latency } = await run<{ latency: unknown }>(
      'latency-run.ts',
      Math.round(eventsPerSecond * share),
      latencySeconds,
    )
    latencies[name] = latency
  }
}
const figures = {
  eventsPerSecond,
  bareLoop,
  ratio: Number(median(whole.map(({ seconds }, i) => bare[i]!.seconds / seconds)).toFixed(3)),
  cpuSecondsPerMillion: Number((median(whole.map(({ cpuSeconds }) => cpuSeconds)) / (events / 1e6)).toFixed(2)),
  bareCpuSecondsPerMillion: Number((median(bare.map(({ cpuSeconds }) => cpuSeconds)) / (events / 1e6)).toFixed(2)),
  peakMemoryMB: Math.round(median(whole.map(({ peakMemoryMB }) => peakMemoryMB))),
  warehouseMemoryMB: Math.round(median(whole.map(({ warehouseMemoryMB = 0 }) => warehouseMemoryMB))),
  latency: latencies,
}
if (values.json) console.log(JSON.stringify(figures))
else console.log(figures)
