import { type Duration, milliseconds } from '../core/duration.ts'
import { type Operator, splitKey, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'
import type { Aggregator } from './windows/aggregators.ts'
import type { WindowOptions } from './windows/aligned.ts'
import { type Counted, type Late, tallyOf, type Windowed } from './windows/tally.ts'

export interface SessionOptions<T, A> extends WindowOptions<T, A> {
  /** Silence that ends a session: a record this long after the last one begins another. */
  gap: Duration
  /** The longest time from a session's first record to its last. @default no bound */
  atMost?: Duration
}

/**
 * What is kept of a session: when its first and last records were, how many results were given, of how many records the
 * last, and the time of its timer. A timer that finds the session gone on is set again, so that not every record sets one.
 */
type Kept = readonly [
  first: number,
  last: number,
  results: number,
  given: number,
  timer: number | null,
  counted: Counted,
]

/**
 * Computes something of each key's records in sessions: visits, which a silence of `gap` ends.
 *
 * Of a result, `start` and `end` are the times of the session's first and last record. It is given when the watermark has
 * passed the silence, with the event time of its end; with `early` also before, and within `grace` again for every late
 * event, with the next `revision`. A record between two sessions joins them; what was given of both, if it was, stays
 * given. With `atMost`, a record that would make its session longer begins another, and the order of arrival decides which
 * one a late record joins. A record that is too late for any session goes to the side stream `late`, counted. State: one
 * entry a key, with its sessions that are not over.
 *
 * @example
 * ```ts
 * const views = of({ at: 0 }, { at: 60_000 }, { at: 3_600_000 }).pipe(eventTime((e) => e.at))
 * const visits = session({ by: () => 'ann', gap: '30m', aggregate: (a) => ({ pages: a.count() }) })
 * await lastValueFrom(views.pipe(visits, rxMap((s) => [s.start, s.end, s.pages]), toArray())) // => [[0, 60_000, 2], [3_600_000, 3_600_000, 1]]
 * ```
 */
export function session<T, A extends Record<string, Aggregator<any, any>>>(
  options: SessionOptions<T, A>,
): Operator<T, Windowed<A>, { late: Late<T> }> {
  const { by, name = 'session' } = options
  const where = `session "${name}"`
  const gap = milliseconds(options.gap, `${where}: gap`)
  const grace = milliseconds(options.grace ?? '0s', `${where}: grace`, { zero: true })
  const early = options.early === undefined ? undefined : milliseconds(options.early, `${where}: early`)
  const atMost =
    options.atMost === undefined ? Number.POSITIVE_INFINITY : milliseconds(options.atMost, `${where}: atMost`)
  const tally = tallyOf<T, A>(options.aggregate, where)
  const ttl = gap + grace + 1

  return operate<
    T,
    Windowed<A>,
    {
      sessions: { kind: 'table'; ttl: number }
      ends: { kind: 'timers'; clock: 'event' }
      early: { kind: 'timers'; clock: 'event' }
    },
    { late: Late<T> }
  >({
    kind: 'session',
    name,
    keyed: by ? 'by' : 'stream',
    state: {
      sessions: { kind: 'table', ttl },
      ends: { kind: 'timers', clock: 'event' },
      early: { kind: 'timers', clock: 'event' },
    },
    sides: ['late'],
    start({ state: { sessions, ends, early: earlier }, clock, emit, side, count }) {
      const read = (key: string) => (sessions.get(key) as readonly Kept[] | undefined) ?? []
      const write = (key: string, list: readonly Kept[]) => {
        const kept = list.filter(([, last]) => last + gap + grace > clock.watermark)
        if (kept.length === 0) sessions.delete(key)
        else sessions.set(key, kept, Math.max(...kept.map(([, last]) => last)))
      }
      /** Gives the session's result, and what is to be kept of it now. */
      const give = (key: string, [first, last, results, , timer, stored]: Kept, closed: boolean): Kept => {
        const owner = by ? splitKey(key).by : key
        const counted = tally.read(stored)
        emit(tally.result({ key: owner, start: first, end: last, revision: results, closed }, counted) as Windowed<A>)
        return [first, last, results + 1, counted[1], timer, counted]
      }
      return {
        next(value, meta) {
          const { time } = meta
          const key = stateKey(by, value, meta)
          const list = read(key)
          const rest: Kept[] = []
          let first = time
          let last = time
          let results = 0
          let given = 0
          let timer: number | null = null
          let before: Counted | undefined
          for (const kept of list) {
            const [from, to, gave, of, set, counted] = kept
            const joins =
              time < to + gap &&
              from < time + gap &&
              Math.max(to, last) - Math.min(from, first) <= atMost &&
              to + gap + grace > clock.watermark
            if (!joins) {
              rest.push(kept)
              continue
            }
            first = Math.min(first, from)
            last = Math.max(last, to)
            results = Math.max(results, gave)
            given += of
            if (timer === null || (set !== null && set > timer)) timer = set
            before = before ? tally.merge(before, tally.read(counted)) : tally.read(counted)
          }
          const end = last + gap
          if (before === undefined && end + grace <= clock.watermark) {
            count('late')
            side('late', { value, time, by: clock.watermark - end - grace } satisfies Late<T>)
            return
          }
          let made: Kept = [first, last, results, given, timer, tally.add(before, value)]
          if (end <= clock.watermark) made = give(key, made, true)
          else {
            if (timer === null || timer <= clock.watermark) {
              ends.set(key, end - 1)
              made = [first, last, results, given, end - 1, made[5]]
            }
            if (early !== undefined) earlier.set(key, (Math.floor(time / early) + 1) * early - 1)
          }
          const at = rest.findIndex(([from]) => from > first)
          write(key, at < 0 ? [...rest, made] : [...rest.slice(0, at), made, ...rest.slice(at)])
        },
        due({ key, time }, _meta, which) {
          const list = read(key)
          if (which === 'ends') {
            const at = list.findIndex(([, , , , timer]) => timer === time)
            if (at < 0) return
            const found = list[at]!
            const [first, last, results, given, , counted] = found
            if (last + gap > time + 1) {
              ends.set(key, last + gap - 1)
              write(key, list.with(at, [first, last, results, given, last + gap - 1, counted]))
            } else {
              const kept = give(key, found, true)
              write(key, grace > 0 ? list.with(at, kept) : list.toSpliced(at, 1))
            }
            return
          }
          const at = list.findIndex(
            ([first, last, , of, , counted]) => first <= time && last + gap > time + 1 && counted[1] > of,
          )
          if (at >= 0) write(key, list.with(at, give(key, list[at]!, false)))
        },
      }
    },
  })
}
