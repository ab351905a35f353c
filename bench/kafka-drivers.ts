import { execFile } from 'node:child_process'
import { parseArgs, promisify } from 'node:util'
import type { DriverName } from '../kafka/driver.ts'
import { startKafka } from '../test/support/servers/kafka-broker.ts'
import { KAFKA } from '../test/support/servers/maven.ts'

/**
 * `npx node --conditions=source bench/kafka-drivers.ts`: the two drivers by turns on one broker, each in a process of its
 * own: producing and reading records of 180 bytes over 8 partitions, what an idle reader costs, and how long a group
 * takes to share partitions out when a worker comes and when it goes. `--json` prints one line.
 */
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    records: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '3' },
  },
})

export interface DriverRun {
  readonly produce: { readonly perSecond: number; readonly cpu: number }
  readonly read: { readonly perSecond: number; readonly cpu: number }
  readonly idleMs: number
  readonly joinMs: number
  readonly leaveMs: number
  readonly memoryMB: number
}

const run = promisify(execFile)
await KAFKA.fetch()
const broker = await startKafka()
const runs: Record<DriverName, DriverRun[]> = { kafkajs: [], platformatic: [] }
try {
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const driver of ['kafkajs', 'platformatic'] as const) {
      const topic = `${driver}-${round}`
      await broker.topic(topic, 8)
      const script = new URL('kafka-driver-run.ts', import.meta.url).pathname
      const args = ['--conditions=source', script, driver, broker.brokers, topic, values.records]
      const { stdout } = await run(process.execPath, args, { maxBuffer: 1e8 })
      runs[driver].push(JSON.parse(stdout) as DriverRun)
      if (!values.json) console.log(driver, stdout.trim())
    }
  }
} finally {
  await broker.remove()
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!
}

const result = Object.fromEntries(
  Object.entries(runs).map(([driver, all]) => {
    const of = (what: (one: DriverRun) => number) => Number(median(all.map(what)).toPrecision(3))
    return [
      driver,
      {
        producedPerSecond: of((one) => one.produce.perSecond),
        produceCpuPerMillion: of((one) => one.produce.cpu),
        readPerSecond: of((one) => one.read.perSecond),
        readCpuPerMillion: of((one) => one.read.cpu),
        idleMsPerSecond: of((one) => one.idleMs),
        joinMs: of((one) => one.joinMs),
        leaveMs: of((one) => one.leaveMs),
        memoryMB: of((one) => one.memoryMB),
      },
    ]
  }),
)
if (values.json) console.log(JSON.stringify(result))
else console.table(result)
