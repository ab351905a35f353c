import { type Duration, milliseconds } from '../../core/duration.ts'
import { type Keyed, type Operator, splitKey, stateKey } from '../../core/operator.ts'
import { operate } from '../../core/standalone.ts'
import type { Aggregator, Aggregators } from './aggregators.ts'
import type { Calendar } from './calendar.ts'
import { type Counted, type Late, tallyOf, type Windowed } from './tally.ts'

export interface WindowOptions<T, A> extends Keyed<T> {
  /** What is computed: a field of the result for each aggregator. */
  aggregate: (a: Aggregators<T>) => A
  /** How long after its end a window still takes late events, and gives a corrected result. @default '0s' */
  grace?: Duration
  /** Give what there is so far this often, in event time. @default only at the end */
  early?: Duration
}

/** What was given of a window: how many results, and how many records the last one had. */
type Given = readonly [results: number, records: number]

/** Windows that begin where the calendar says, each of so many of its pieces; a record is counted once, in its piece. */
export function alignedWindows<T, A extends Record<string, Aggregator<any, any>>>(
  kind: string,
  { by, name = kind, aggregate, ...options }: WindowOptions<T, A>,
  { floor, next, longest }: Calendar,
  pieces: number,
): Operator<T, Windowed<A>, { late: Late<T> }> {
  const where = `${kind} "${name}"`
  const grace = milliseconds(options.grace ?? '0s', `${where}: grace`, { zero: true })
  const early = options.early === undefined ? undefined : milliseconds(options.early, `${where}: early`)
  const tally = tallyOf<T, A>(aggregate, where)
  const ttl = pieces * longest + grace + 1
  const revisits = grace > 0 || early !== undefined
  const endOf = (start: number) => {
    let end = start
    for (let i = 0; i < pieces; i++) end = next(end)
    return end
  }
  const startOf = (end: number) => {
    let start = end
    for (let i = 0; i < pieces; i++) start = floor(start - 1)
    return start
  }
  /** Beginnings of the windows that a piece is part of, the newest first. */
  const windowsOf = function* (piece: number) {
    for (let i = 0, start = piece; i < pieces; i++, start = floor(start - 1)) yield start
  }

  return operate<
    T,
    Windowed<A>,
    {
      pieces: { kind: 'table'; ttl: number }
      given: { kind: 'table'; ttl: number }
      ends: { kind: 'timers'; clock: 'event' }
      early: { kind: 'timers'; clock: 'event' }
    },
    { late: Late<T> }
  >({
    kind,
    name,
    keyed: by ? 'by' : 'stream',
    state: {
      pieces: { kind: 'table', ttl },
      given: { kind: 'table', ttl },
      ends: { kind: 'timers', clock: 'event' },
      early: { kind: 'timers', clock: 'event' },
    },
    sides: ['late'],
    start({ state, clock, emit, side, count }) {
      const give = (key: string, start: number, end: number, closed: boolean) => {
        let whole: Counted | undefined
        for (let piece = start; piece < end; piece = next(piece)) {
          const stored = state.pieces.get(`${piece} ${key}`)
          if (stored === undefined) continue
          const part = tally.read(stored)
          whole = whole ? tally.merge(whole, part) : part
        }
        if (!whole) return
        let revision = 0
        if (revisits) {
          const [results, records] = (state.given.get(`${start} ${key}`) as Given | undefined) ?? [0, 0]
          if (!closed && records === whole[1]) return
          revision = results
          state.given.set(`${start} ${key}`, [results + 1, whole[1]], start)
        }
        const owner = by ? splitKey(key).by : key
        emit(tally.result({ key: owner, start, end, revision, closed }, whole) as Windowed<A>)
      }
      return {
        next(value, meta) {
          const { time } = meta
          const { watermark } = clock
          const piece = floor(time)
          const over = endOf(piece) + grace
          if (over <= watermark) {
            count('late')
            side('late', { value, time, by: watermark - over } satisfies Late<T>)
            return
          }
          const key = stateKey(by, value, meta)
          const place = `${piece} ${key}`
          const before = state.pieces.get(place)
          // kept until the last window that it is part of is over
          state.pieces.set(place, tally.add(before === undefined ? undefined : tally.read(before), value), piece)
          if (before === undefined) {
            for (const start of windowsOf(piece)) {
              const end = endOf(start)
              if (end > watermark) state.ends.set(key, end - 1)
            }
          }
          if (grace > 0 && next(piece) <= watermark) {
            for (const start of [...windowsOf(piece)].reverse()) {
              const end = endOf(start)
              if (end <= watermark && end + grace > watermark) give(key, start, end, true)
            }
          }
          if (early !== undefined) state.early.set(key, (Math.floor(time / early) + 1) * early - 1)
        },
        due({ key, time }, _meta, which) {
          if (which === 'ends') {
            give(key, startOf(time + 1), time + 1, true)
            return
          }
          for (const start of [...windowsOf(floor(time))].reverse()) {
            const end = endOf(start)
            if (end > time + 1) give(key, start, end, false)
          }
        },
      }
    },
  })
}
