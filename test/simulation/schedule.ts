import { silentLogger } from '../../core/logger.ts'
import type { Change, Store } from '../../core/store.ts'
import { startWorker, type Worker } from '../../core/worker.ts'
import { type Fate, MemoryDisk, memoryStore } from '../../state/memory.ts'
import { noMetrics } from '../support/no-metrics.ts'
import { guard } from './guard.ts'
import { judge } from './judge.ts'
import { createMonitor } from './monitor.ts'
import { inputOf } from './shop.ts'
import { type Stage, shopPipeline } from './shop-pipeline.ts'
import { createSystem } from './systems.ts'
import { variant as drawVariant } from './variant.ts'
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
}

/** Things that may happen in one schedule; one that goes on longer does not come to an end. */
const MOST_STEPS = 20_000
/** From here on nothing fails any more, so that what is left has to come to a good end. */
const CALM_FROM = 2_000
/** Simulated milliseconds until somebody starts a worker that ended again; and most of them after a kill. */
const RESTART = 100
const DOWN = 60_000

/** A worker of a schedule, from its start to its end or death. */
interface Run {
  readonly life: Life
  worker: Worker | undefined
  ended: boolean
}

/** Lives through one schedule: its seed decides the input, the pipeline, every delay and every fault. */
export async function runSchedule({ seed, without, trace }: ScheduleOptions): Promise<ScheduleResult> {
  const violations: string[] = []
  const release = guard((what) => {
    if (!violations.includes(what)) violations.push(what)
  })
  try {
    return await live(createWorld({ seed, ...(without ? { without } : {}), trace }), seed, violations)
  } finally {
    release()
  }
}

async function live(world: World, seed: number, violations: string[]): Promise<ScheduleResult> {
  const { random } = world
  const disk = new MemoryDisk()
  const variant = drawVariant(random)
  const input = inputOf(random, variant, world.now)
  const progress = { part: variant.grows ? 0 : 1, downUntil: 0 }
  const rows = createSystem({ world, name: 'rows', disk, kind: variant.rows, outages: variant.outages })
  const mails = createSystem({ world, name: 'mails', disk, kind: variant.mails, outages: variant.outages })
  const monitor = createMonitor(disk, variant, rows.taken)
  const stage: Stage = { world, variant, input, progress, rows, mails, kill }
  /** Those that were not killed. */
  const runs: Run[] = []
  let begun = 0
  let copy: (() => void) | undefined
  let putBack = false
  let crashes = 0
  let finished = false
  /** With sources that have grown past their end: the next start must be refused, or is told to read on. */
  let seal: 'unbroken' | 'refuses' | 'reopened' = 'unbroken'
  let restartAt = world.now
  /** A life has ended with everything done, and others still live. */
  let waiting = false
  if (world.traced) world.note(`seed ${seed}: ${JSON.stringify(variant)}`)

  function kill(only?: Life): void {
    crashes++
    if (only) world.note(`life ${only.number} dies of a record`)
    for (const { life } of runs) life.end()
    runs.length = 0
    disk.crash()
    if (copy && world.fault('an old copy of the store is put back', 0.7)) {
      copy()
      copy = undefined
      putBack = true
      monitor.forget()
    }
    restartAt = world.now + random.whole(0, random.one([1_000, 1_000, DOWN]))
  }

  function begin(): Run {
    waiting = false
    const life = createLife(world, ++begun)
    const run: Run = { life, worker: undefined, ended: false }
    runs.push(run)
    world.note(`life ${life.number} begins`)
    const store = faulty(
      world,
      life,
      memoryStore({
        disk,
        flush: (changes) => life.answer(random.whole(0, 20), () => fate(world, life, changes, variant.full)),
      }),
      { look: () => monitor.look(), kill },
    )
    const reopen = seal === 'reopened'
    const mustFail = seal === 'refuses'
    /** False when the life was over before. */
    const over = async (why: string) => {
      if (life.over || run.ended) return false
      await store.close()
      if (life.over) return false
      run.ended = true
      run.worker = undefined
      world.note(`life ${life.number} ended: ${why}`)
      restartAt = world.now + RESTART
      return true
    }
    const ended = ({ state, sources, sinks }: Awaited<Worker['done']>) => {
      const whole = Object.values(sources).every(({ ended: end }) => end)
      const left = Object.values(sinks).some(({ stagedBatches }) => stagedBatches > 0)
      void over(`${state}, ${whole && !left ? 'with everything done' : 'drained'}`).then((lived) => {
        if (!lived || !whole || left) return
        if (othersLive()) {
          waiting = progress.part === 1
          return
        }
        if (Object.values(sources).some(({ lag }) => lag !== 0)) violations.push('it ended, and its lag is not 0')
        if (progress.part === 1) finished = true
        else grow()
      })
    }
    startWorker({
      pipeline: shopPipeline(stage, life),
      store,
      dataDir: '/nowhere',
      env: {},
      runtime: life.runtime,
      logger: silentLogger,
      metrics: noMetrics,
      cache: false,
      untilEnd: true,
      reopen,
      epoch: variant.epoch,
    }).then(
      (worker) => {
        if (!run.ended) run.worker = worker
        // another, beside it, may have been told to, and have begun
        if (mustFail && seal !== 'reopened')
          violations.push('it read on past the end of a source without being told to')
        worker.done.then(ended, (error) => over(`${error.code}: ${error.message}`))
      },
      (error) => {
        if (error.code === 'SOURCE_SEALED') {
          if (!mustFail) violations.push(error.message)
          seal = 'reopened'
        }
        void over(`at its start, ${error.code}: ${error.message}`)
      },
    )
    return run
  }

  function othersLive(): boolean {
    return runs.some(({ ended }) => !ended)
  }

  function grow(): void {
    progress.part = 1
    const grown = [...input.shop, ...(input.desk ?? [])].some((feed) => feed.some(({ part }) => part === 1))
    if (!grown) {
      finished = true
      return
    }
    world.note('the sources have grown past their end')
    seal = 'refuses'
    // before an end, other waits are over than after it
    copy = undefined
    monitor.forget()
  }

  let steps = 0
  let current = begin()
  while (!finished) {
    if (++steps > MOST_STEPS) {
      violations.push(`it did not come to an end in ${MOST_STEPS} steps`)
      break
    }
    if (steps > CALM_FROM) world.calm = true
    const happened = await world.step()
    if (finished) break
    if (current.ended || current.life.over) {
      // where nothing fails any more, a life would find nothing to do until the others' end
      if (waiting && world.calm && happened && othersLive()) continue
      if (world.now >= restartAt) current = begin()
      else world.after(restartAt - world.now, () => undefined)
      continue
    }
    if (!happened) {
      violations.push('nothing is left that could happen, and it has not come to its end')
      break
    }
    if (variant.putBack && !copy && random.yes(0.02)) {
      copy = copyOf(disk)
      world.note('the store is copied')
    }
    if (world.fault('kill', 0.009)) kill()
    else if (variant.zombies && world.fault('another worker starts beside this one', 0.002)) current = begin()
    else if (world.fault('the worker stands still', variant.past && !variant.asynchronous ? 0.002 : 0.006)) {
      current.life.stoppedUntil = Math.max(current.life.stoppedUntil, world.now + random.whole(1_000, 120_000))
      if (variant.zombies && random.yes(0.6)) current = begin()
    } else if (variant.jumps > 0 && world.fault('the clock jumps', 0.002)) {
      world.skew = variant.past
        ? random.whole(-variant.jumps, variant.jumps)
        : world.skew - random.whole(0, variant.jumps)
    } else if (current.worker && world.fault('drain', 0.001)) void current.worker.drain()
  }
  for (const { life } of runs) life.end()
  monitor.look()
  const judged = judge({ variant, input, disk, rows, mails }, putBack)
  return {
    seed,
    steps,
    crashes,
    unknownOutcomes: rows.unknown + mails.unknown,
    faults: world.faults,
    lost: judged.lost,
    doubled: judged.doubled,
    violations: [...violations, ...monitor.violations, ...judged.violations],
  }
}

/** How a group of changes fares on the disk. */
function fate(world: World, life: Life, changes: readonly Change[], full: number): Fate {
  if (world.fault('the disk is full', full)) return 'failed'
  if (world.fault('a commit is durable, and nobody hears of it', 0.006)) return 'unknown, applied'
  // what was staged in it must not have been delivered
  const lost = changes.some(({ staged }) => staged && staged.length > 0) ? 0.025 : 0.006
  if (world.fault('a commit is lost, and nobody hears of it', lost)) return 'unknown, lost'
  if (world.traced) for (const change of changes) world.note(`life ${life.number} commits ${shown(change)}`)
  return 'committed'
}

function shown({ task, epoch, staged = [], deadLetters = [], lanes = [] }: Change): string {
  const names = (list: readonly { name: string }[]) =>
    list.map(({ name }) => name.split('/').slice(-3).join('/')).join(' ')
  return [
    `${task.split('/').at(-1)}: ${epoch === undefined ? 'no epoch' : `epoch ${epoch}`}`,
    ...(staged.length > 0 ? [`stages ${names(staged)}`] : []),
    ...lanes.flatMap(({ sink, remove, replace, group, ungroup, attempts }) => [
      ...(remove ? [`${sink} has answered for ${names(remove.map((name) => ({ name })))}`] : []),
      ...(replace ? [`the remainder is ${names([replace.by])}`] : []),
      ...(group ? [`groups ${names(group.members.map((name) => ({ name })))} as ${names([group])}`] : []),
      ...(ungroup ? [`takes ${names([{ name: ungroup }])} apart`] : []),
      ...(attempts ? [`${sink} is about to be sent ${names(attempts.map((name) => ({ name })))}`] : []),
    ]),
    ...deadLetters.map(({ source, position, where }) => `sets aside ${source} ${position} (${where})`),
  ].join('; ')
}

/** A store that cannot be read now and then. */
function faulty(
  world: World,
  life: Life,
  store: Store,
  { look, kill }: { readonly look: () => void; readonly kill: () => void },
): Store {
  const fails = (what: string, probability: number) => {
    if (world.fault(what, probability)) throw Object.assign(new Error(what), { code: 'STATE_FAILED' })
  }
  return {
    ...store,
    async open(task) {
      await life.answer(0, () => fails('the store cannot be opened', 0.01))
      return store.open(task)
    },
    async commit(change) {
      const result = await store.commit(change)
      look()
      // what lanes seldom do is seldom followed by a kill
      const seldom = change.lanes?.some(({ ungroup, replace }) => ungroup !== undefined || replace)
      if (!seldom || !world.fault('kill behind a change of a lane', 0.15)) return result
      kill()
      return new Promise(() => undefined)
    },
    async body(task, name) {
      await life.answer(0, () => fails('a staged batch cannot be read', 0.005))
      return store.body(task, name)
    },
  }
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
