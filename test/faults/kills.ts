import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { openWarehouse } from '../../embedded/warehouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { inspect } from '../../state/inspect.ts'
import { abandonedCarts, captured } from '../support/carts.ts'
import { POINTS } from './kill-worker.ts'

export interface KillsResult {
  readonly kills: number
  /** Kills by where they hit. */
  readonly points: Readonly<Record<string, number>>
  readonly runs: number
  readonly lost: number
  readonly doubled: number
  readonly problems: readonly string[]
  readonly seconds: number
}

export const WORKER = new URL('kill-worker.ts', import.meta.url).pathname
/** Kills of one run, before it may come to its end. */
const A_RUN = 12

/**
 * Kills workers on the embedded default with SIGKILL, at points by turns and at random moments, starts them again, and
 * compares what is in the warehouse, the outbox and the dead letters with a plain computation over the file.
 *
 * @param dirty the file that is read; @param clean the same without repeats and malformed lines
 */
export async function killWorkers(
  kills: number,
  { dirty, clean, workers = 2 }: { dirty: string; clean: string; workers?: number },
  say: (text: string) => void = () => undefined,
): Promise<KillsResult> {
  const began = performance.now()
  const wanted = readFileSync(clean, 'latin1').trimEnd().split('\n')
  const points: Record<string, number> = {}
  const problems: string[] = []
  let done = 0
  let runs = 0
  let lost = 0
  let doubled = 0
  const work = async () => {
    while (done < kills) await oneRun()
  }
  const oneRun = async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'millrace-kills-'))
    try {
      const number = ++runs
      for (let i = 0; i < A_RUN && done < kills; i++) {
        const point = i % 4 === 3 ? 'any moment' : POINTS[(i + number) % POINTS.length]!
        done++
        if (await killed(dataDir, dirty, point)) points[point] = (points[point] ?? 0) + 1
        else {
          done--
          break
        }
      }
      const code = await run([dataDir, dirty])
      if (code !== 0) problems.push(`run ${number} ended with ${code}`)
      const found = await compare(dataDir, wanted)
      lost += found.lost
      doubled += found.doubled
      problems.push(...found.problems.map((problem) => `run ${number}: ${problem}`))
      say(`${done} kills, ${runs} runs: ${lost} lost, ${doubled} doubled`)
    } finally {
      rmSync(dataDir, { recursive: true, force: true })
    }
  }
  await Promise.all(Array.from({ length: workers }, work))
  return {
    kills: done,
    points,
    runs,
    lost,
    doubled,
    problems,
    seconds: Math.round((performance.now() - began) / 1_000),
  }
}

/** What is in the warehouse, the outbox and the dead letters, beside a plain computation over the lines without faults. */
export async function compare(
  dataDir: string,
  wanted: readonly string[],
): Promise<{ lost: number; doubled: number; problems: string[] }> {
  const ids = new Set(wanted.map((line) => JSON.parse(line).eventId as string))
  const mails = abandonedCarts(wanted)
  const rows = await warehouseIds(dataDir)
  const missing = [...ids].filter((id) => !rows.includes(id)).length
  const twice = rows.length - new Set(rows).size
  const sent = captured(dataDir)
  const unsent = mails.filter((mail) => !sent.includes(mail)).length
  const extra = sent.length - (mails.length - unsent)
  const letters = deadLetters(dataDir)
  const problems = letters === 25 ? [] : [`${letters} dead letters`]
  if (missing + twice + unsent + extra > 0)
    problems.push(`${missing} rows missing, ${twice} twice; ${unsent} mails missing, ${extra} too much`)
  return { lost: missing + unsent, doubled: twice + extra, problems }
}

/** Starts a worker that is to be killed; false when it came to its end before. */
async function killed(dataDir: string, path: string, point: string): Promise<boolean> {
  if (point !== 'any moment')
    return (
      (await run([dataDir, path, point, String(Math.floor(Math.random() * (point.startsWith('at ') ? 1 : 12)))])) !== 0
    )
  return (await run([dataDir, path], 300 + Math.random() * 900)) !== 0
}

/** Its exit code; null when it was killed. */
function run(args: readonly string[], killAfter?: number): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--conditions=source', WORKER, ...args], { stdio: 'ignore' })
    const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter)
    child.on('exit', (code) => {
      clearTimeout(timer)
      resolve(code)
    })
  })
}

async function warehouseIds(dataDir: string): Promise<string[]> {
  const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const client = connectClickHouse({ url: warehouse.url, socketPath: warehouse.socketPath, database: 'default' })
  try {
    const answer = await client.query({ query: 'SELECT eventId FROM events', format: 'JSONEachRow' })
    return ((await answer.json()) as { eventId: string }[]).map(({ eventId }) => eventId)
  } finally {
    await client.close()
    await warehouse.close()
  }
}

function deadLetters(dataDir: string): number {
  const inspector = inspect(join(dataDir, 'state.db'))
  try {
    return inspector.deadLetters.count()
  } finally {
    inspector.close()
  }
}

if (import.meta.main) {
  const data = new URL('../../../shared/data/', import.meta.url).pathname
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '50' },
      dirty: { type: 'string', default: join(data, 'retailrocket_dirty.jsonl') },
      clean: { type: 'string', default: join(data, 'retailrocket.jsonl') },
      json: { type: 'boolean', default: false },
    },
  })
  if (!existsSync(values.dirty)) throw new Error(`there is no ${values.dirty}: name the files with --dirty and --clean`)
  const { points, problems, runs, ...result } = await killWorkers(
    Number(values.kills),
    values,
    (text) => values.json || console.log(text),
  )
  if (!values.json) console.log(points, problems, `${runs} runs`)
  console.log(JSON.stringify(result))
  if (problems.length > 0) process.exitCode = 1
}
