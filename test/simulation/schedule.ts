import type { StandardSchemaV1 } from '@standard-schema/spec'
import { silentLogger } from '../../core/logger.ts'
import type { Metrics } from '../../core/metrics.ts'
import { type Pipeline, pipeline } from '../../core/pipeline.ts'
import { stream } from '../../core/stream.ts'
import { startWorker, type Worker } from '../../core/worker.ts'
import { absence } from '../../operators/absence.ts'
import { dedup } from '../../operators/dedup.ts'
import { map } from '../../operators/map.ts'
import { mapAsync } from '../../operators/map-async.ts'
import { scan } from '../../operators/scan.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { arrivals, expected, LATENESS, type ShopEvent, WITHIN } from './shop.ts'
import { createSystem, type System, shopSource } from './systems.ts'
import { createLife, createWorld, type Life, type World } from './world.ts'

export interface ScheduleOptions {
  readonly seed: number
  readonly without?: ReadonlySet<number>
  readonly trace?: (text: string) => void
}

export interface ScheduleResult {
  readonly seed: number
  readonly steps: number
  readonly crashes: number
  readonly unknownOutcomes: number
  readonly lost: number
  readonly doubled: number
  readonly violations: readonly string[]
  readonly faults: readonly { readonly number: number; readonly kind: string }[]
  /** A store was put back: things may take effect twice, and still none may be lost. */
  readonly putBack: boolean
}

/** Things that may happen in one schedule; one that goes on longer does not come to an end. */
const MOST_STEPS = 10_000
/** From here on nothing fails any more. */
const CALM_FROM = 2_000
/** Simulated milliseconds until somebody starts a worker that ended again. */
const RESTART = 100

/** What a worker counts is its own affair here: a registry would take a tenth of the time. */
const NO_METRICS = {
  counter: () => () => ({ add: () => undefined }),
  gauge: () => () => ({ set: () => undefined }),
  histogram: () => () => ({ observe: () => undefined }),
} as unknown as Metrics

/** Lives through one schedule: its seed decides the input, the pipeline, every delay and every fault. */
export async function runSchedule({ seed, without, trace }: ScheduleOptions): Promise<ScheduleResult> {
  const world = createWorld({ seed, ...(without ? { without } : {}), trace })
  const { random } = world
  const disk = new MemoryDisk()
  const partitions = random.one([1, 1, 2, 3])
  const past = random.yes(0.5)
  const most = random.one([8, 16, 16, 40])
  const input = Array.from({ length: partitions }, (_, i) =>
    arrivals(random, i, random.whole(1, most), world.now, past),
  )
  const asynchronous = random.yes(0.3)
  const rows = createSystem({
    world,
    name: 'rows',
    disk,
    grouped: random.yes(0.6),
    ...(random.yes(0.5) ? { rows: random.whole(1, 5) } : {}),
  })
  const mails = createSystem({
    world,
    name: 'mails',
    disk,
    guarantee: random.one(['idempotent', 'ledger']),
    grouped: random.yes(0.3),
  })
  const epochRecords = random.one([1, 2, 3, 7, 50])
  const violations: string[] = []
  const mayBePutBack = random.yes(0.25)
  let copy: (() => void) | undefined
  let putBack = false
  const lives: { life: Life; worker: Worker | undefined; ended: boolean }[] = []
  let crashes = 0
  let finished = false
  let steps = 0
  let restartAt = world.now

  const begin = () => {
    const life = createLife(world, lives.length + 1)
    const entry: (typeof lives)[number] = { life, worker: undefined, ended: false }
    lives.push(entry)
    world.note(`life ${life.number} begins${asynchronous ? ', asynchronous' : ''}`)
    const store = memoryStore({
      disk,
      flush: (changes) =>
        life.answer(random.whole(0, 20), () => {
          const epoch = changes.some((change) => change.epoch !== undefined)
          if (world.fault('the disk is full', 0.004)) return 'failed'
          if (world.fault('a commit is durable, and nobody hears of it', 0.006)) return 'unknown, applied'
          if (world.fault('a commit is lost, and nobody hears of it', 0.006)) return 'unknown, lost'
          if (epoch)
            world.note(
              `life ${life.number} commits ${changes.map(({ task, epoch: n }) => `${task.split('/').at(-1)}:${n ?? 'lane'}`).join(' ')}`,
            )
          return 'committed'
        }),
    })
    const over = (why: string) => {
      if (life.over || entry.ended) return
      entry.ended = true
      world.note(`life ${life.number} ended: ${why}`)
      restartAt = world.now + RESTART
    }
    startWorker({
      pipeline: makePipeline(world, life, input, rows, mails, asynchronous),
      store,
      dataDir: '/nowhere',
      env: {},
      runtime: life.runtime,
      logger: silentLogger,
      metrics: NO_METRICS,
      cache: false,
      untilEnd: true,
      epoch: { records: epochRecords, bytes: 1_000_000 },
    }).then(
      (worker) => {
        entry.worker = worker
        worker.done.then(
          async ({ state }) => {
            await store.close()
            const whole = Object.values(worker.status().sources).every(({ ended }) => ended)
            const left = Object.values(worker.status().sinks).some(({ stagedBatches }) => stagedBatches > 0)
            over(`${state}, ${whole && !left ? 'with everything done' : 'drained'}`)
            if (whole && !left && !lives.some((other) => !other.ended && !other.life.over)) finished = true
          },
          (error) => over(`${error.code}: ${error.message}`),
        )
      },
      (error) => over(`at its start, ${error.code}: ${error.message}`),
    )
    return entry
  }

  let current = begin()
  while (!finished) {
    if (++steps > MOST_STEPS) {
      violations.push(`it did not come to an end in ${MOST_STEPS} steps`)
      break
    }
    // faults stop at last, so that what is left has to come to a good end
    if (steps > CALM_FROM) world.calm = true
    if (!(await world.step())) {
      if (current.ended || current.life.over) {
        world.after(Math.max(0, restartAt - world.now), () => undefined)
      } else {
        violations.push('nothing is left that could happen, and it has not come to its end')
        break
      }
    }
    if ((current.ended || current.life.over) && !finished && world.now >= restartAt) {
      current = begin()
      continue
    }
    if (current.ended || current.life.over) {
      world.after(Math.max(1, restartAt - world.now), () => undefined)
      continue
    }
    if (mayBePutBack && !copy && random.yes(0.01)) {
      copy = copyOf(disk)
      world.note('the store is copied')
    }
    if (world.fault('kill', 0.009)) {
      crashes++
      for (const { life } of lives) life.over = true
      disk.crash()
      if (copy && world.fault('an old copy of the store is put back', 0.7)) {
        copy()
        copy = undefined
        putBack = true
      }
      restartAt = world.now + random.whole(0, 1_000)
    } else if (world.fault('another worker starts beside this one', 0.001)) {
      current = begin()
    } else if (current.worker && world.fault('drain', 0.001)) {
      void current.worker.drain()
    }
  }
  for (const { life } of lives) life.over = true
  return {
    seed,
    steps,
    crashes,
    unknownOutcomes: rows.unknown + mails.unknown,
    faults: world.faults,
    putBack,
    ...judge(disk, input, rows, mails, violations, putBack),
  }
}

function makePipeline(
  world: World,
  life: Life,
  input: Parameters<typeof shopSource>[2],
  rows: System,
  mails: System,
  asynchronous: boolean,
): Pipeline {
  const schema: StandardSchemaV1<unknown, ShopEvent> = {
    '~standard': { version: 1, vendor: 'simulation', validate: (value) => ({ value: value as ShopEvent }) },
  }
  const source = stream(shopSource(world, life, input), {
    schema,
    key: (e: ShopEvent) => e.who,
    time: (e: ShopEvent) => e.at,
    lateness: `${LATENESS}ms`,
  })
  const checked = source.pipe(
    asynchronous
      ? mapAsync(
          async (e: ShopEvent, meta) => {
            await life.answer(world.random.whole(0, 20), () => undefined)
            if (e.bad) throw new Error(`${meta.id()} is bad`)
            return e
          },
          { name: 'check', concurrency: 3, timeout: '30s' },
        )
      : map((e: ShopEvent) => {
          if (e.bad) throw new Error('bad')
          return e
        }),
  )
  const events = checked.pipe(dedup({ by: (e: ShopEvent) => e.id, within: '7d' }))
  const left = events.pipe(
    scan({ name: 'steps', seed: { n: 0, what: '' as string }, step, ttl: '7d' }),
    absence({
      after: (s: { what: string }) => s.what === 'add',
      unless: (s: { what: string }) => s.what === 'buy',
      within: `${WITHIN}ms`,
    }),
  )
  return pipeline('simulated', { rows: events.to(rows.sink(life)), mails: left.to(mails.sink(life)) }, { maxPoison: 1 })
}

function step({ n }: { n: number }, { what, trips }: ShopEvent): { n: number; what: string } {
  if (trips) throw new Error('trips')
  return { n: n + 1, what }
}

/** A copy of the store, as of now; what it gives puts it back. */
function copyOf(disk: MemoryDisk): () => void {
  const tasks = new Map(disk.tasks().map((name) => [name, structuredClone(disk.task(name)!)]))
  const letters = disk.deadLetters.length
  return () => {
    for (const name of disk.tasks()) {
      const task = disk.task(name)!
      const {
        blobs,
        batches,
        fence: _fence,
        ...rest
      } = tasks.get(name) ?? {
        blobs: new Map(),
        batches: new Map(),
        fence: 0,
        epoch: 0,
        deaths: 0,
        facts: undefined,
        receipts: {},
      }
      Object.assign(task, rest)
      replace(task.blobs, blobs)
      replace(task.batches, batches)
    }
    disk.deadLetters.length = letters
  }
}

function replace<K, V>(map: Map<K, V>, by: ReadonlyMap<K, V>): void {
  map.clear()
  for (const [key, value] of by) map.set(key, value)
}

/** Holds what came of a schedule to what had to. */
function judge(
  disk: MemoryDisk,
  input: Parameters<typeof expected>[0],
  rows: System,
  mails: System,
  violations: string[],
  putBack: boolean,
) {
  const wanted = expected(input)
  violations.push(...rows.violations, ...mails.violations)
  let lost = 0
  let doubled = 0
  const compare = (what: string, want: readonly string[], got: readonly string[]) => {
    const counts = new Map<string, number>()
    for (const one of want) counts.set(one, (counts.get(one) ?? 0) + 1)
    for (const one of got) counts.set(one, (counts.get(one) ?? 0) - 1)
    for (const [one, difference] of counts) {
      if (difference === 0) continue
      if (difference < 0 && putBack) continue
      if (difference > 0) lost += difference
      else doubled -= difference
      violations.push(`${what}: ${one} is ${difference > 0 ? 'missing' : 'too much'}`)
    }
  }
  const idsOf = (partition: number) =>
    rows.applied.filter(({ task }) => task.endsWith(`/${partition}`)).map(({ row }) => String(row.id))
  wanted.rows.forEach((want, partition) => {
    const got = idsOf(partition)
    compare(`rows of partition ${partition}`, want, got)
    if (!putBack && got.length === want.length && got.some((id, i) => id !== want[i]))
      violations.push(`rows of partition ${partition} came out of order`)
  })
  compare(
    'mails',
    wanted.mails,
    mails.applied.map(({ row }) => `${row.key}@${row.at}`),
  )
  // the end of a source is the end of all waiting
  const ends = input.map((all) => all.at(-1)?.at ?? 0)
  for (const { task, row, at } of mails.applied)
    if (at < Number(row.at) && at < ends[Number(task.split('/').at(-1))]!)
      violations.push(`the mail ${row.key}@${row.at} was sent before its time`)
  compare(
    'dead letters',
    wanted.letters,
    disk.deadLetters.map(({ source, position, where, bytes }) =>
      source === 'shop'
        ? `shop ${position} ${where === 'map' ? 'check' : where}`
        : `refused ${JSON.parse(Buffer.from(bytes).toString()).id} ${where}`,
    ),
  )
  for (const task of disk.tasks()) {
    const { batches } = disk.task(task)!
    if (batches.size > 0) violations.push(`${task}: ${batches.size} batches are left`)
  }
  return { lost, doubled, violations }
}
