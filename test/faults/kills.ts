import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { openWarehouse } from '../../embedded/warehouse.ts'
import { ShopEvent } from '../../pipelines/schemas/shop-event.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { inspect } from '../../state/inspect.ts'
import { chance } from '../simulation/chance.ts'
import { end, options, whole } from '../support/arguments.ts'
import { abandonedCarts, captured } from '../support/carts.ts'
import { ONCE, POINTS } from './kill-worker.ts'

export interface KillsOptions {
  readonly kills: number
  /** The events that are read: JSON lines, some of which may be repeats or malformed. */
  readonly file: string
  /** Runs side by side. @default 2 */
  readonly workers?: number
  /** Chooses points and occasions. @default 1 */
  readonly seed?: number
}

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
const A_RUN = 20
/** Before which of so many occasions at a point the kill comes. */
const OCCASIONS = 8

/**
 * Kills workers on the embedded default with SIGKILL, at points by turns and at random moments, starts them again, and
 * compares what is in the warehouse, the outbox and the dead letters with a plain computation over the file.
 */
export async function killWorkers(
  { kills, file, workers = 2, seed = 1 }: KillsOptions,
  say: (text: string) => void = () => undefined,
): Promise<KillsResult> {
  const began = performance.now()
  const lines = readFileSync(file, 'latin1').trimEnd().split('\n')
  const random = chance(seed)
  const points: Record<string, number> = {}
  const problems: string[] = []
  // what is loaded thousands of times is compiled once
  const compiled = mkdtempSync(join(tmpdir(), 'millrace-compiled-'))
  let done = 0
  let runs = 0
  let lost = 0
  let doubled = 0
  /** Starts a worker that is to be killed; false when it came to its end before. */
  const killed = async (dataDir: string, point: string) => {
    const env = { NODE_COMPILE_CACHE: compiled }
    if (point === 'any moment') return (await run([dataDir, file], env, 100 + random.next() * 900)) !== 0
    const occasion = ONCE.includes(point) ? 0 : random.whole(0, (point === 'in the flow' ? 40 : 1) * OCCASIONS)
    const at = { MILLRACE_KILL_AT: point, MILLRACE_KILL_OCCASION: String(occasion) }
    return (await run([dataDir, file], { ...env, ...at })) !== 0
  }
  const work = async () => {
    while (done < kills) await oneRun()
  }
  const oneRun = async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'millrace-kills-'))
    const number = ++runs
    // the warehouse ends and starts with the workers in some runs only: its start takes longer than theirs
    const held = number % 4 === 0 ? undefined : await openWarehouse(here(dataDir))
    try {
      for (let i = 0; i < A_RUN && done < kills; i++) {
        const point = i % 4 === 3 ? 'any moment' : POINTS[(i + number) % POINTS.length]!
        done++
        if (await killed(dataDir, point)) points[point] = (points[point] ?? 0) + 1
        else {
          done--
          break
        }
      }
      const code = await run([dataDir, file], { NODE_COMPILE_CACHE: compiled })
      if (code !== 0) problems.push(`run ${number} ended with ${code}`)
      const found = await compare(dataDir, lines)
      lost += found.lost
      doubled += found.doubled
      problems.push(...found.problems.map((problem) => `run ${number}: ${problem}`))
      say(`${done} kills, ${runs} runs: ${lost} lost, ${doubled} doubled`)
    } finally {
      await held?.close()
      rmSync(dataDir, { recursive: true, force: true, maxRetries: 10 })
    }
  }
  await Promise.all(Array.from({ length: workers }, work))
  rmSync(compiled, { recursive: true, force: true })
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

/** What is in the warehouse, the outbox and the dead letters, beside a plain computation over all lines at once. */
export async function compare(
  dataDir: string,
  lines: readonly string[],
  letters = deadLetters(dataDir),
): Promise<{ lost: number; doubled: number; problems: string[] }> {
  const valid = lines.filter(isEvent)
  const ids = new Set(valid.map((line) => JSON.parse(line).eventId as string))
  const mails = abandonedCarts(valid)
  const rows = await warehouseIds(dataDir)
  const known = new Set(rows)
  const missing = [...ids].filter((id) => !known.has(id)).length
  const strange = [...known].filter((id) => !ids.has(id)).length
  const twice = rows.length - known.size
  const sent = captured(dataDir)
  const unsent = mails.filter((mail) => !sent.includes(mail)).length
  const extra = sent.length - (mails.length - unsent)
  const bad = lines.length - valid.length
  const problems = letters === bad ? [] : [`${letters} dead letters instead of ${bad}`]
  if (missing + strange + twice + unsent + extra > 0)
    problems.push(
      `${missing} rows missing, ${twice} twice, ${strange} of nowhere; ${unsent} mails missing, ${extra} too much`,
    )
  return {
    lost: missing + unsent + Math.max(0, bad - letters),
    doubled: twice + strange + extra + Math.max(0, letters - bad),
    problems,
  }
}

export function isEvent(line: string): boolean {
  try {
    return ShopEvent.safeParse(JSON.parse(line)).success
  } catch {
    return false
  }
}

/** Its exit code; null when it was killed. */
function run(args: readonly string[], env: Record<string, string>, killAfter?: number): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--conditions=source', WORKER, ...args], {
      stdio: 'ignore',
      env: { ...process.env, ...env },
    })
    const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter)
    child.on('exit', (code) => {
      clearTimeout(timer)
      resolve(code)
    })
  })
}

async function warehouseIds(dataDir: string): Promise<string[]> {
  const warehouse = await openWarehouse(here(dataDir))
  const client = connectClickHouse({ url: warehouse.url, socketPath: warehouse.socketPath, database: 'default' })
  try {
    const answer = await client.query({ query: 'SELECT eventId FROM events', format: 'JSONEachRow' })
    return ((await answer.json()) as { eventId: string }[]).map(({ eventId }) => eventId)
  } finally {
    await client.close()
    await warehouse.close()
  }
}

function here(dataDir: string) {
  return { dataDir, runtime: systemRuntime, logger: silentLogger }
}

function deadLetters(dataDir: string): number {
  const inspector = inspect(join(dataDir, 'state.db'))
  try {
    return inspector.deadLetters.count()
  } finally {
    inspector.close()
  }
}

/**
 * `npm run faults`: kills workers, and compares what came of it.
 *
 *     -- --kills 10000        so many
 *     -- --file events.jsonl  events to read: those of the cart pipeline, a line each
 *     -- --seed 7             other points and occasions
 *     -- --workers 1          one after the other
 *     -- --json               nothing but one line at the end
 */
if (import.meta.main) {
  const values = options({
    kills: { type: 'string', default: '50' },
    file: {
      type: 'string',
      default: new URL('../../../shared/data/retailrocket_dirty.jsonl', import.meta.url).pathname,
    },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
  })
  const asked = {
    kills: whole('kills', values.kills, 1),
    seed: whole('seed', values.seed, 0),
    workers: whole('workers', values.workers, 1),
  }
  if (!existsSync(values.file))
    end(`there is no file ${values.file}: name one with events of the shop, --file EVENTS.jsonl`)
  const { points, problems, runs, kills, lost, doubled, seconds } = await killWorkers(
    { ...asked, file: values.file },
    (text) => values.json || console.log(text),
  )
  for (const problem of problems) console.error(problem)
  if (!values.json) console.log(`${runs} runs;`, points)
  console.log(JSON.stringify({ kills, lost, doubled, seconds }))
  if (problems.length > 0) process.exitCode = 1
}
