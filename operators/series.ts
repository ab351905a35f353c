import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Keyed, type Meta, type Operator, splitKey, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

type Predicate<T> = (e: T, meta: Meta) => boolean
/** What is left of T when the predicate F (written or inferred as `e is A`) has said yes. */
type Narrow<F, T> = F extends (e: any, ...rest: any) => e is infer A ? A : T

export interface SeriesOptions<T, F extends Predicate<T>, N extends string> extends Keyed<T> {
  /** Begins the series. */
  after: F
  /** The steps, and how long after the beginning each is, in event time. */
  steps: { readonly [P in N]: Duration }
  /** Stops it: what has not been given yet is not given. */
  unless: (e: T, meta: Meta) => boolean
  /** A further `after` while it runs: begin again, or keep the first. @default 'restart' */
  again?: 'restart' | 'ignore'
}

/** `value` is the record that began the series; `at` is when the step was due, epoch milliseconds. */
export interface Step<N extends string, A> {
  readonly key: string
  readonly step: N
  readonly value: A
  readonly at: number
}

/** Beginnings with their records, when stopping records came, and which beginnings really ran: each in the order of time. */
interface Known {
  readonly starts: readonly { readonly at: number; readonly value: unknown }[]
  readonly stops: readonly number[]
  readonly ran: readonly number[]
}

const NOTHING: Known = { starts: [], stops: [], ran: [] }

/**
 * Gives the steps of a series at their times, until something stops it: a welcome at once, a tip after three days, an offer
 * after a week, unless the person has bought.
 *
 * It goes by event time, in whatever order records arrive: a step is given when the watermark has passed its time, once,
 * also after a crash, also when no record follows. A record that matches `unless` stops the steps from its own time on;
 * with `restart`, so does a further `after`, which begins anew; with `ignore`, a further `after` counts only when no series
 * runs. A beginning whose first step is over already goes to the side stream `late`, counted. State: beginnings and
 * stopping records for as long as the last step takes, a key.
 *
 * @example
 * ```ts
 * const events = of({ at: 0, what: 'signup' }, { at: 90_000, what: 'buy' }).pipe(eventTime((e) => e.at))
 * const welcome = series({ by: () => 'ann', after: (e: { what: string }) => e.what === 'signup', steps: { hello: '1m', offer: '2m' }, unless: (e) => e.what === 'buy' })
 * await lastValueFrom(events.pipe(welcome, rxMap((s) => [s.step, s.at]), toArray())) // => [['hello', 60_000]]
 * ```
 */
export function series<T, F extends Predicate<T>, N extends string>(
  options: SeriesOptions<T, F, N>,
): Operator<T, Step<N, Narrow<F, T>>, { late: T }> {
  const { by, name = 'series', after, unless, again = 'restart' } = options
  const where = `series "${name}"`
  const steps = (Object.entries(options.steps ?? {}) as [N, Duration][])
    .map(([step, duration]) => ({ step, wait: milliseconds(duration, `${where}: ${step}`, { zero: true }) }))
    .sort((a, b) => a.wait - b.wait)
  if (steps.length === 0) throw new MillraceError('BAD_OPTION', `${where}: steps must name at least one step`)
  for (const [option, given] of [
    ['after', after],
    ['unless', unless],
  ] as const) {
    if (typeof given !== 'function')
      throw new MillraceError('BAD_OPTION', `${where}: ${option} must be a function, got ${shown(given)}`)
  }
  if (again !== 'restart' && again !== 'ignore')
    throw new MillraceError('BAD_OPTION', `${where}: again must be 'restart' or 'ignore', got ${shown(again)}`)
  const first = steps[0]!.wait
  const longest = steps.at(-1)!.wait

  return operate<
    T,
    Step<N, Narrow<F, T>>,
    { known: { kind: 'table'; ttl: number }; due: { kind: 'timers'; clock: 'event' } },
    { late: T }
  >({
    kind: 'series',
    name,
    keyed: by ? 'by' : 'stream',
    state: { known: { kind: 'table', ttl: 2 * longest + 1 }, due: { kind: 'timers', clock: 'event' } },
    sides: ['late'],
    start: ({ state: { known, due }, clock, emit, side, count }) => {
      const read = (key: string) => (known.get(key) as Known | undefined) ?? NOTHING
      const newestOf = ({ starts, stops, ran }: Known) =>
        Math.max(starts.at(-1)?.at ?? Number.NEGATIVE_INFINITY, ...stops, ...ran)
      const write = (key: string, { starts, stops, ran }: Known, over: number) => {
        // a late record may still come for any series that is not over: what bears on none of them can go
        const horizon = clock.watermark - longest - first
        const kept = {
          starts: starts.filter(({ at }) => at + longest > over),
          stops: stops.filter((at) => at >= horizon),
          ran: ran.filter((at) => at >= horizon),
        }
        if (kept.starts.length + kept.stops.length + kept.ran.length === 0) known.delete(key)
        else known.set(key, kept, newestOf(kept))
      }
      return {
        next(value, meta) {
          const stops = unless(value, meta)
          const starts = after(value, meta)
          if (!stops && !starts) return
          const key = stateKey(by, value, meta)
          const { time } = meta
          let state = read(key)
          if (stops) state = { ...state, stops: [...state.stops, time] }
          if (starts) {
            if (time + first < clock.watermark) {
              count('late')
              side('late', value)
            } else {
              const others = state.starts.filter(({ at }) => at !== time)
              state = { ...state, starts: [...others, { at: time, value }].sort((a, b) => a.at - b.at) }
              for (const { wait } of steps) due.set(key, time + wait)
            }
          }
          write(key, state, Number.NEGATIVE_INFINITY)
        },
        due({ key, time }) {
          let state = read(key)
          const owner = by ? splitKey(key).by : key
          const given: Step<N, Narrow<F, T>>[] = []
          for (const { at, value } of state.starts) {
            for (const { step, wait } of steps) {
              if (at + wait !== time) continue
              const stopped = (from: number, to: number) => state.stops.some((stop) => stop >= from && stop <= to)
              if (again === 'ignore' && wait === first && !state.ran.includes(at)) {
                const held = state.ran.some((run) => run < at && at <= run + longest && !stopped(run, at))
                if (!held) state = { ...state, ran: [...state.ran, at] }
              }
              const runs =
                again === 'ignore'
                  ? state.ran.includes(at)
                  : !state.starts.some((other) => other.at > at && other.at <= time)
              if (runs && !stopped(at, time)) given.push({ key: owner, step, value: value as Narrow<F, T>, at: time })
            }
          }
          write(key, state, time)
          for (const each of given) emit(each)
        },
      }
    },
  })
}
