import { MillraceError } from '../../core/errors.ts'
import type { Delivery, Guarantee, Outcome, Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import type { MemoryDisk } from '../../state/memory.ts'
import type { Arrival } from './shop.ts'
import type { Life, World } from './world.ts'

/** The system that the source reads: it outlives the workers. */
export function shopSource(world: World, life: Life, partitions: readonly (readonly Arrival[])[]): Source {
  return {
    kind: 'simulated',
    name: 'shop',
    async open() {
      return {
        identity: 'shop',
        partitions: partitions.length,
        unit: 'records',
        decode({ value, position }) {
          if (value === undefined) throw new MillraceError('UNDECODABLE', `the record at ${position} is poison`)
          return value
        },
        async reader(index, from) {
          const all = partitions[index]!
          let next = from?.next ?? 0
          return {
            async read({ records }) {
              if (world.fault(`source ${index} cannot be read for now`, 0.02)) {
                return life.answer(world.random.whole(1, 50), () => {
                  throw new MillraceError('SOURCE_FAILED', 'the shop does not answer', { retriable: true })
                })
              }
              return life.answer(world.random.whole(0, 30), () => {
                if (next === all.length) return null
                const most = next + Math.min(records, world.random.whole(1, 12))
                const some = []
                while (next < Math.min(most, all.length) && all[next]!.at <= world.now) some.push(all[next++]!.record)
                return some
              })
            },
            more: (signal) =>
              life.runtime.sleep(next < all.length ? Math.max(1, all[next]!.at - world.now) : 10, signal),
            lag: async () => all.length - next,
            close: async () => undefined,
          }
        },
        close: async () => undefined,
      }
    },
  }
}

/** A system that takes batches, and outlives the workers. It tells repeats by the names of batches. */
export interface System {
  /** Rows in the order in which they took effect, with the task that they came from. */
  readonly applied: { readonly task: string; readonly row: Record<string, unknown>; readonly at: number }[]
  readonly violations: string[]
  unknown: number
  sink(life: Life): Sink<any>
}

export interface SystemOptions {
  readonly world: World
  readonly name: string
  readonly disk: MemoryDisk
  readonly guarantee?: Guarantee
  readonly grouped?: boolean
  /** Most rows of a batch. */
  readonly rows?: number
}

export function createSystem({
  world,
  name,
  disk,
  guarantee = 'idempotent',
  grouped = false,
  rows: most,
}: SystemOptions): System {
  const bodies = new Map<string, string>()
  const taken = new Set<string>()
  const answers = new Set<string>()
  const system: System = {
    applied: [],
    violations: [],
    unknown: 0,
    sink: (life) => ({
      kind: 'simulated',
      guarantee,
      touches: 'state',
      open: async () => ({
        identity: name,
        ...(grouped ? { group: { rows: 1_000, bytes: 1_000_000 } } : {}),
        ...(most === undefined ? {} : { limit: { rows: most } }),
        encoder: () => ({
          head: 'json',
          row(value: { unfit?: true }) {
            if (value.unfit) throw new MillraceError('SINK_REJECTED', 'the row does not fit')
            return `${JSON.stringify(value)}\n`
          },
        }),
        deliver: (delivery, signal) => deliver(life, delivery, signal),
        close: async () => undefined,
      }),
    }),
  }

  /** A request reaches the system: it takes effect once, whole, or not at all. */
  function arrive({ name: batch, task, body }: Delivery): Outcome {
    const text = Buffer.from(body).toString()
    const before = bodies.get(batch)
    if (before !== undefined && before !== text)
      system.violations.push(`${name}: the name ${batch} came with other bytes`)
    bodies.set(batch, text)
    const rows = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const bad = rows.flatMap((row, at) => (row.refused ? [{ row: at, reason: 'no such field' }] : []))
    if (bad.length > 0) return { kind: 'rejected', retry: 'never', reason: 'no such field', rows: bad }
    if (taken.has(batch)) return { kind: 'applied' }
    taken.add(batch)
    for (const row of rows) system.applied.push({ task, row, at: world.now })
    world.note(`${name} takes ${batch}: ${rows.map((row) => row.id ?? row.key).join(' ')}`)
    return { kind: 'applied' }
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
    if (world.fault(`${name} cannot be reached`, 0.06))
      return life.answer(delay, () => ({ kind: 'notSent', reason: 'refused' }))
    if (world.fault(`${name} is busy`, 0.04))
      return life.answer(delay, () => ({ kind: 'rejected', retry: 'later', reason: 'busy', retryAfter: 200 }))
    if (world.fault(`${name} loses the request`, 0.03)) {
      system.unknown++
      return life.answer(delay, () => ({ kind: 'unknown', reason: 'reset' }))
    }
    if (world.fault(`${name} takes the request, and its answer is lost`, 0.05)) {
      system.unknown++
      world.after(delay, () => void arrive(delivery))
      return life.answer(delay + 1, () => ({ kind: 'unknown', reason: 'reset' }))
    }
    if (world.fault(`${name} takes the request long after it was given up`, 0.03)) {
      system.unknown++
      world.after(delay + world.random.whole(1, 90_000), () => void arrive(delivery))
      return life.answer(delay, () => ({ kind: 'unknown', reason: 'timed out' }))
    }
    if (world.fault(`${name} never answers`, 0.02)) {
      system.unknown++
      if (world.random.yes(0.5)) world.after(delay, () => void arrive(delivery))
      return new Promise((resolve) => {
        signal.addEventListener('abort', () => life.over || resolve({ kind: 'unknown', reason: 'no answer' }), {
          once: true,
        })
      })
    }
    // the system works when the request arrives, whether or not somebody waits for its answer
    let outcome: Outcome
    world.after(delay, () => {
      outcome = arrive(delivery)
      if (outcome.kind === 'applied') answers.add(delivery.name)
    })
    return life.answer(delay + world.random.whole(0, 5), () => outcome)
  }
  return system
}
