import { MillraceError } from '../../core/errors.ts'
import type { Delivery, Outcome, Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import type { MemoryDisk } from '../../state/memory.ts'
import type { Feed } from './shop.ts'
import type { SystemKind } from './variant.ts'
import type { Life, World } from './world.ts'

/** How the sources are doing. */
export interface Progress {
  /** How much has come: 0, the first part; 1, all of it. */
  part: number
  /** Until then they cannot be read. */
  downUntil: number
}

/** The system that a source reads: it outlives the workers. */
export function shopSource(world: World, life: Life, name: string, feeds: readonly Feed[], progress: Progress): Source {
  return {
    kind: 'simulated',
    name,
    async open() {
      if (world.fault(`${name} cannot be opened for now`, 0.02)) {
        return life.answer(world.random.whole(1, 50), () => {
          throw new MillraceError('SOURCE_FAILED', `${name} does not answer`, { retriable: true })
        })
      }
      return {
        identity: name,
        partitions: feeds.length,
        unit: 'records',
        decode({ value, position }) {
          if (value === undefined) throw new MillraceError('UNDECODABLE', `the record at ${position} is poison`)
          return value
        },
        async reader(index, from) {
          const all = feeds[index]!.filter(({ part }) => part <= progress.part)
          let next = from?.next ?? 0
          return {
            async read({ records }) {
              if (world.fault(`${name} cannot be read for a while`, 0.005))
                progress.downUntil = world.now + world.random.whole(1_000, 20_000)
              if (
                (world.now < progress.downUntil && !world.calm) ||
                world.fault(`${name} ${index} cannot be read for now`, 0.02)
              ) {
                return life.answer(world.random.whole(1, 50), () => {
                  throw new MillraceError('SOURCE_FAILED', `${name} does not answer`, { retriable: true })
                })
              }
              return life.answer(world.random.whole(0, 30), () => {
                if (next === all.length) return null
                const most = next + Math.min(records, world.random.whole(1, 12))
                const some = []
                while (next < Math.min(most, all.length) && all[next]!.at <= world.now) some.push(all[next++]!.record)
                if (world.traced && some.length > 0)
                  world.note(`life ${life.number} reads ${name} ${index}: ${next - some.length} to ${next - 1}`)
                return some
              })
            },
            more: (signal) => life.comes(next < all.length ? Math.max(1, all[next]!.at - world.now) : 10, signal),
            lag: async () => all.length - next,
            close: async () => undefined,
          }
        },
        close: async () => undefined,
      }
    },
  }
}

/** A row as a system has it. */
export interface Row {
  readonly id?: string
  readonly who?: string
  readonly key?: string
  readonly at: number
  readonly n?: number
  readonly flaw?: string
  /** The version, for last-write-wins. */
  readonly v: number
  readonly cause: string
}

export interface Applied {
  readonly task: string
  readonly row: Row
  /** When, simulated milliseconds. */
  readonly at: number
}

/** A system that takes batches, and outlives the workers. */
export interface System {
  /** Rows in the order in which they took effect, with the task that they came from. */
  applied(): readonly Applied[]
  /** Of each person, the row with the largest version. */
  readonly newest: ReadonlyMap<string, Row>
  /** Names of batches that took effect. */
  readonly taken: ReadonlySet<string>
  readonly violations: string[]
  unknown: number
  sink(life: Life): Sink<any>
}

export interface SystemOptions {
  readonly world: World
  readonly name: string
  readonly disk: MemoryDisk
  readonly kind: SystemKind
  readonly outages: number
}

export function createSystem({ world, name, disk, kind, outages }: SystemOptions): System {
  const { guarantee, grouped, most, repeats, partial } = kind
  const bodies = new Map<string, string>()
  const outcomes = new Map<string, Outcome>()
  const names = new Set<string>()
  const answers = new Set<string>()
  const keys = new Set<string>()
  const applied: Applied[] = []
  /** Of each task, what its file holds, and the length of what was answered for. */
  const files = new Map<string, { rows: Applied[]; answered: number }>()
  const newest = new Map<string, Row>()
  let downUntil = world.random.yes(10 * outages) ? world.now + world.random.whole(1_000, 60_000) : 0
  const system: System = {
    applied: () => (repeats === 'by receipt' ? [...files.values()].flatMap(({ rows }) => rows) : applied),
    newest,
    taken: names,
    violations: [],
    unknown: 0,
    sink: (life) => ({
      kind: 'simulated',
      guarantee,
      touches: 'state',
      async open() {
        if (world.fault(`${name} cannot be opened for now`, 0.02)) {
          return life.answer(world.random.whole(1, 50), () => {
            throw new MillraceError('SINK_FAILED', `${name} does not answer`, { retriable: true })
          })
        }
        return {
          identity: name,
          ...(grouped ? { group: { rows: 1_000, bytes: 1_000_000 } } : {}),
          ...(most === undefined ? {} : { limit: { rows: most } }),
          ...(repeats === 'by receipt' ? { attach: cutBack } : {}),
          encoder: () => ({
            head: 'json',
            row(value: object & { flaw?: string }, meta) {
              if (value.flaw === 'unfit') throw new MillraceError('SINK_REJECTED', 'the row does not fit')
              return `${JSON.stringify({ ...value, v: meta.version(), cause: meta.cause })}\n`
            },
          }),
          deliver: (delivery, signal) => (life.over ? new Promise(() => undefined) : deliver(life, delivery, signal)),
          close: async () => undefined,
        }
      },
    }),
  }

  async function cutBack(task: string, receipt: string | undefined): Promise<void> {
    const file = files.get(task) ?? { rows: [], answered: 0 }
    files.set(task, file)
    file.answered = Number(receipt ?? 0)
    file.rows.length = Math.min(file.rows.length, file.answered)
    if (file.rows.length < file.answered)
      system.violations.push(
        `${name}: ${task} is given a receipt of ${file.answered} rows, and had ${file.rows.length}`,
      )
  }

  /** A request reaches the system: it takes effect once, whole, or not at all. */
  function arrive(life: Life, { name: batch, task, body }: Delivery): Outcome {
    const text = Buffer.from(body).toString()
    const before = bodies.get(batch)
    if (before !== undefined && before !== text)
      system.violations.push(`${name}: the name ${batch} came with other bytes`)
    bodies.set(batch, text)
    const known = outcomes.get(batch)
    if (known !== undefined) return known
    const rows = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Row)
    const bad = rows.flatMap((row, at) => (row.flaw === 'refused' ? [{ row: at, reason: 'no such field' }] : []))
    if (bad.length > 0 && !partial) return { kind: 'rejected', retry: 'never', reason: 'no such field', rows: bad }
    const good = rows.filter(({ flaw, cause }) => flaw !== 'refused' && !(repeats === 'by key' && keys.has(cause)))
    for (const row of good) {
      keys.add(row.cause)
      const who = row.who ?? row.key ?? ''
      if ((newest.get(who)?.v ?? 0) <= row.v) newest.set(who, row)
    }
    if (world.traced)
      world.note(
        `${name} takes ${batch} of life ${life.number}: ${good.map(({ id, key, at }) => id ?? `${key}@${at}`).join(' ')}`,
      )
    names.add(batch)
    const taken = good.map((row) => ({ task, row, at: world.now }))
    if (repeats === 'by receipt') {
      const file = files.get(task)!
      file.rows.length = file.answered
      file.rows.push(...taken)
      return { kind: 'applied', receipt: String(file.rows.length) }
    }
    applied.push(...taken)
    const outcome: Outcome = { kind: 'applied', ...(bad.length > 0 ? { rejected: bad } : {}) }
    outcomes.set(batch, outcome)
    return outcome
  }

  function checkRecorded({ name: batch, task, attempt }: Delivery): void {
    if (guarantee === 'idempotent') return
    const { batches } = disk.task(task)!
    const members = [...batches].filter(([own, { group }]) => own === batch || group === batch)
    if (answers.has(batch) || members.length === 0) return
    if (members.some(([, { attempts }]) => attempts < attempt))
      system.violations.push(`${name}: attempt ${attempt} of ${batch} was made before it was recorded`)
  }

  function deliver(life: Life, delivery: Delivery, signal: AbortSignal): Promise<Outcome> {
    checkRecorded(delivery)
    const delay = world.random.whole(1, 40)
    const refused = () => life.answer(delay, (): Outcome => ({ kind: 'notSent', reason: 'refused' }))
    if (world.now < downUntil && !world.calm) return refused()
    if (world.fault(`${name} is down for a while`, outages)) {
      downUntil = world.now + world.random.whole(1_000, 60_000)
      return refused()
    }
    if (world.fault(`${name} cannot be reached`, 0.05)) return refused()
    if (world.fault(`${name} is busy`, 0.04))
      return life.answer(delay, () => ({ kind: 'rejected', retry: 'later', reason: 'busy', retryAfter: 200 }))
    // a file has no network before it
    if (repeats !== 'by receipt') {
      if (world.fault(`${name} loses the request`, 0.03)) {
        system.unknown++
        return life.answer(delay, () => ({ kind: 'unknown', reason: 'reset' }))
      }
      if (world.fault(`${name} takes the request long after it was given up`, 0.03)) {
        system.unknown++
        world.after(delay + world.random.whole(1, 90_000), () => void arrive(life, delivery))
        return life.answer(delay, () => ({ kind: 'unknown', reason: 'timed out' }))
      }
      if (world.fault(`${name} never answers`, 0.02)) {
        system.unknown++
        if (world.random.yes(0.5)) world.after(delay, () => void arrive(life, delivery))
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => life.over || resolve({ kind: 'unknown', reason: 'no answer' }), {
            once: true,
          })
        })
      }
    }
    // the system works when the request arrives, whether or not somebody waits for its answer
    let outcome: Outcome
    const arrival = () => {
      if (repeats === 'by receipt' && life.over) return
      outcome = arrive(life, delivery)
    }
    if (world.fault(`${name} takes the request, and its answer is lost`, 0.05)) {
      system.unknown++
      world.after(delay, arrival)
      return life.answer(delay + 1, () => ({ kind: 'unknown', reason: 'reset' }))
    }
    world.after(delay, () => {
      arrival()
      if (outcome?.kind === 'applied') answers.add(delivery.name)
    })
    return life.answer(delay + world.random.whole(0, 5), () => {
      const file = files.get(delivery.task)
      if (file && outcome.kind === 'applied') file.answered = file.rows.length
      return outcome
    })
  }
  return system
}
