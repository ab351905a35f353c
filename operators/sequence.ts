import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Keyed, type Meta, type Operator, splitKey, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

type Predicate<T> = (e: T, meta: Meta) => boolean
/** What is left of T when the predicate F (written or inferred as `e is A`) has said yes. */
type Narrow<F, T> = F extends (e: any, ...rest: any) => e is infer A ? A : T

export interface SequenceOptions<T, P> extends Keyed<T> {
  /** What must happen, one after the other: a name and a predicate each. */
  steps: P
  /** What must not happen from the first step on until `within` has passed. With it, a match is given then. */
  unless?: (e: T, meta: Meta) => boolean
  /** The longest time from the first step to the last, in event time. */
  within: Duration
}

/** The records that matched, by the names of their steps; `at` is when that was decided, epoch milliseconds. */
export type Matched<T, P> = { readonly key: string; readonly at: number } & {
  readonly [N in keyof P]: Narrow<P[N], T>
}

/** A record that may be part of a match: its time, which steps it can be (a bit each), whether it is what must not be, and itself. */
type Kept = readonly [time: number, steps: number, stops: boolean, value: unknown]

/**
 * Tells when one thing happened after another: looked at, put into the cart, and, with `unless`, not bought.
 *
 * Per key, in the order of event time, whatever order records arrive in: the earliest record that matches the first step
 * begins; each further step is the next record that matches it; the last one may come up to `within` after the first. A
 * record is part of one match only, and matches do not cross: behind one, the next begins. Without `unless` it is given
 * when the watermark has passed the last step, with its event time; with it, when `within` after the first step has
 * passed, if no such record came from the first step on, the end included. A record that comes too late for any match goes
 * to the side stream `late`, counted. State: the records of the last `within` that match something, a key.
 *
 * @example
 * ```ts
 * const events = of({ at: 0, what: 'view' }, { at: 60_000, what: 'cart' }, { at: 90_000, what: 'view' }).pipe(eventTime((e) => e.at))
 * const wanted = sequence({ by: () => 'ann', steps: { seen: (e: { what: string }) => e.what === 'view', taken: (e: { what: string }) => e.what === 'cart' }, within: '30m' })
 * await lastValueFrom(events.pipe(wanted, rxMap((m) => [m.seen.what, m.taken.what, m.at]), toArray())) // => [['view', 'cart', 60_000]]
 * ```
 */
export function sequence<T, P extends Record<string, Predicate<T>>>(
  options: SequenceOptions<T, P>,
): Operator<T, Matched<T, P>, { late: T }> {
  const { by, name = 'sequence', unless } = options
  const where = `sequence "${name}"`
  const within = milliseconds(options.within, `${where}: within`)
  const steps = Object.entries(options.steps ?? {})
  if (steps.length === 0 || steps.length > 30)
    throw new MillraceError('BAD_OPTION', `${where}: steps must name from 1 to 30 steps, got ${steps.length}`)
  for (const [step, test] of [...steps, ['unless', unless ?? (() => false)] as const]) {
    if (typeof test !== 'function')
      throw new MillraceError('BAD_OPTION', `${where}: ${step} must be a function of the record, got ${shown(test)}`)
    if (step === 'key' || step === 'at')
      throw new MillraceError(
        'BAD_OPTION',
        `${where}: no step may be called ${step}: every match has a field of that name`,
      )
  }
  const waits = unless === undefined ? 0 : within

  /** From a first step on, where each step is; undefined when the last one does not come in time. */
  function chain(list: readonly Kept[], first: number): number[] | undefined {
    const places = [first]
    for (let at = first + 1; places.length < steps.length; at++) {
      const next = list[at]
      if (next === undefined || next[0] > list[first]![0] + within) return undefined
      if ((next[1] & (1 << places.length)) !== 0) places.push(at)
    }
    return places
  }

  return operate<
    T,
    Matched<T, P>,
    { known: { kind: 'table'; ttl: number }; decisions: { kind: 'timers'; clock: 'event' } },
    { late: T }
  >({
    kind: 'sequence',
    name,
    keyed: by ? 'by' : 'stream',
    state: { known: { kind: 'table', ttl: within + 1 }, decisions: { kind: 'timers', clock: 'event' } },
    sides: ['late'],
    start: ({ state: { known, decisions }, clock, emit, side, count }) => {
      const write = (key: string, list: readonly Kept[]) => {
        const kept = list.filter(([time]) => time + within >= clock.watermark)
        if (kept.length === 0) known.delete(key)
        else known.set(key, kept, kept.at(-1)![0])
      }
      return {
        next(value, meta) {
          let bits = 0
          for (let i = 0; i < steps.length; i++) if (steps[i]![1](value, meta)) bits |= 1 << i
          const stops = unless?.(value, meta) ?? false
          if (bits === 0 && !stops) return
          const { time } = meta
          if (time + within < clock.watermark) {
            count('late')
            side('late', value)
            return
          }
          const key = stateKey(by, value, meta)
          const list = (known.get(key) as readonly Kept[] | undefined) ?? []
          let at = list.length
          while (at > 0 && list[at - 1]![0] > time) at--
          write(key, list.toSpliced(at, 0, [time, bits, stops, bits === 0 ? null : value]))
          // with `unless`, a match is decided by its first step's time; without, by its last one's
          const decides = unless === undefined ? 1 << (steps.length - 1) : 1
          if ((bits & decides) !== 0) decisions.set(key, time + waits)
        },
        due({ key, time }) {
          const list = (known.get(key) as readonly Kept[] | undefined) ?? []
          let from = 0
          const given: number[][] = []
          for (let first = 0; first < list.length; first++) {
            const [began, bits] = list[first]!
            if (first < from || (bits & 1) === 0 || began + waits > time) continue
            const places = chain(list, first)
            if (places === undefined || list[places.at(-1)!]![0] > time) continue
            if (
              unless !== undefined &&
              (began + waits !== time || list.some(([at, , stops], i) => stops && i > first && at <= time))
            )
              continue
            given.push(places)
            from = places.at(-1)! + 1
          }
          if (given.length === 0) return
          const owner = by ? splitKey(key).by : key
          for (const places of given) {
            const values = Object.fromEntries(steps.map(([step], i) => [step, list[places[i]!]![3]]))
            emit({ key: owner, at: time, ...values } as unknown as Matched<T, P>)
          }
          // what is behind the last match was part of it, or before it
          write(key, list.slice(from))
        },
      }
    },
  })
}
