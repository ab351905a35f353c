import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Keyed, type Meta, type Operator, splitKey, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

type Predicate<T> = (e: T, meta: Meta) => boolean
/** What is left of T when the predicate F (written or inferred as `e is A`) has said yes. */
type Narrow<F, T> = F extends (e: any, ...rest: any) => e is infer A ? A : T

export interface AbsenceOptions<T, F extends Predicate<T>> extends Keyed<T> {
  /** Begins a wait. */
  after: F
  /** Ends it without a word. */
  unless: (e: T, meta: Meta) => boolean
  /** How long to wait, in event time. */
  within: Duration
  /** A further `after` within the wait: start again, or keep the first. @default 'restart' */
  again?: 'restart' | 'ignore'
}

/** `key` is what `by` gave, or the stream's; `value` the record that matched `after`; `at` when the wait was over, epoch milliseconds. */
export interface Absent<A> {
  readonly key: string
  readonly value: A
  readonly at: number
}

/** What is known of a key: waits by their beginning, and when records that end waits came. Both in the order of time. */
interface Known<A> {
  readonly waits: readonly { readonly at: number; readonly value: A }[]
  readonly stops: readonly number[]
  /** With `ignore`, when the last wait began that really ran. */
  readonly ran?: number
}

const NOTHING: Known<never> = { waits: [], stops: [] }

/**
 * Tells when something did not happen: after a record that matches `after`, no record that matches `unless` within the
 * time, both ends included. With `restart`, a further `after` begins the wait anew.
 *
 * It goes by event time, in whatever order records arrive: it fires when the watermark has passed the end of the wait,
 * so a purchase that was overtaken by a later event still counts. It fires once, also after a crash, also when no record
 * follows. A beginning so late that its wait is over already goes to the side stream `late`, counted. State: the
 * waits and endings of the last `within`, a key.
 *
 * @example
 * ```ts
 * const events = of({ who: 'a', what: 'cart' }, { who: 'b', what: 'cart' }, { who: 'b', what: 'buy' })
 * const left = absence({ by: (e: { who: string; what: string }) => e.who, after: (e) => e.what === 'cart', unless: (e) => e.what === 'buy', within: '30m' })
 * await lastValueFrom(events.pipe(left, rxMap((a) => a.key), toArray())) // => ['a']
 * ```
 */
export function absence<T, F extends Predicate<T>>(
  options: AbsenceOptions<T, F>,
): Operator<T, Absent<Narrow<F, T>>, { late: T }> {
  const { by, name = 'absence', after, unless, again = 'restart' } = options
  type A = Narrow<F, T>
  const within = milliseconds(options.within, `absence "${name}": within`)
  for (const [option, given] of [
    ['after', after],
    ['unless', unless],
  ] as const) {
    if (typeof given !== 'function')
      throw new MillraceError('BAD_OPTION', `absence "${name}": ${option} must be a function, got ${shown(given)}`)
  }
  if (again !== 'restart' && again !== 'ignore') {
    throw new MillraceError('BAD_OPTION', `absence "${name}": again must be 'restart' or 'ignore', got ${shown(again)}`)
  }
  return operate<
    T,
    Absent<A>,
    { known: { kind: 'table'; ttl: number }; due: { kind: 'timers'; clock: 'event' } },
    { late: T }
  >({
    kind: 'absence',
    name,
    keyed: by ? 'by' : 'stream',
    state: { known: { kind: 'table', ttl: 2 * within + 1 }, due: { kind: 'timers', clock: 'event' } },
    sides: ['late'],
    start: ({ state: { known, due }, clock, emit, side, count }) => {
      const read = (key: string) => (known.get(key) as Known<A> | undefined) ?? NOTHING

      const write = (key: string, { waits, stops, ran }: Known<A>) => {
        // what bears on no wait that is still open, or that a late record may still open, can go; of a wait that is to be
        // ignored, what stopped the one before bears on it as well
        const open = Math.min(clock.watermark - within, waits[0]?.at ?? Number.POSITIVE_INFINITY)
        const horizon = again === 'ignore' ? open - within : open
        const kept = stops.length > 0 && stops[0]! < horizon ? stops.filter((stop) => stop >= horizon) : stops
        if (waits.length === 0 && kept.length === 0 && (ran === undefined || ran < horizon)) return known.delete(key)
        // for as long as the newest of it: an older record, or a timer, must not shorten its life
        const none = Number.NEGATIVE_INFINITY
        const newest = Math.max(clock.watermark, waits.at(-1)?.at ?? none, kept.at(-1) ?? none, ran ?? none)
        known.set(key, { waits, stops: kept, ...(ran === undefined ? {} : { ran }) }, newest)
      }

      return {
        next(value, meta) {
          const stops = unless(value, meta)
          const starts = after(value, meta)
          if (!stops && !starts) return
          const key = stateKey(by, value, meta)
          const { time } = meta
          let state = read(key)
          if (stops) state = { ...state, stops: placed(state.stops, time, (stop) => stop) }
          if (starts) {
            if (time + within < clock.watermark) {
              count('late')
              side('late', value)
            } else {
              const others = state.waits.filter((wait) => wait.at !== time)
              state = { ...state, waits: placed(others, { at: time, value: value as unknown as A }, (wait) => wait.at) }
              due.set(key, time + within)
            }
          }
          write(key, state)
        },
        due({ key, time }) {
          const state = read(key)
          const began = time - within
          const wait = state.waits.find(({ at }) => at === began)
          if (!wait) return
          const stopped = state.stops.some((stop) => stop >= began && stop <= time)
          const waits = state.waits.filter((other) => other !== wait)
          let { ran } = state
          let fires = !stopped
          if (again === 'restart') {
            fires &&= !waits.some(({ at }) => at > began && at <= time)
          } else {
            const last = ran
            const held =
              last !== undefined &&
              began > last &&
              began <= last + within &&
              !state.stops.some((stop) => stop >= last && stop <= began)
            fires &&= !held
            if (!held) ran = began
          }
          write(key, { waits, stops: state.stops, ...(ran === undefined ? {} : { ran }) })
          if (fires) emit({ key: by ? splitKey(key).by : key, value: wait.value, at: time })
        },
      }
    },
  })
}

/** A sorted list with one more, which comes behind its equals. */
function placed<E>(list: readonly E[], one: E, time: (e: E) => number): E[] {
  let at = list.length
  while (at > 0 && time(list[at - 1]!) > time(one)) at--
  return [...list.slice(0, at), one, ...list.slice(at)]
}
