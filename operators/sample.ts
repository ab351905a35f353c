import { type Duration, milliseconds } from '../core/duration.ts'
import { type Keyed, type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface SampleOptions<T> extends Keyed<T> {
  /** How often a key's latest record is given, in event time. */
  every: Duration
}

type Kept = readonly [time: number, value: unknown]

/**
 * Gives the latest record of each key once in every `every`: where a sink wants the state of things, and not each change.
 *
 * Stretches follow one another from the beginning of time, as windows of `tumbling` do; the record with the latest event
 * time in one is given when the watermark reaches its end, with the event time of its last millisecond; of equals, the one
 * that came last. A record that comes when its stretch is over goes to the side stream `late`, counted. State: one record
 * a key and stretch. Records must be JSON.
 *
 * @example
 * ```ts
 * const prices = of({ at: 0, eur: 5 }, { at: 30_000, eur: 6 }, { at: 60_000, eur: 7 }).pipe(eventTime((e) => e.at))
 * await lastValueFrom(prices.pipe(sample({ by: () => 'book', every: '1m' }), rxMap((e) => e.eur), toArray())) // => [6, 7]
 * ```
 */
export function sample<T>(options: SampleOptions<T>): Operator<T, T, { late: T }> {
  const { by, name = 'sample' } = options
  const every = milliseconds(options.every, `sample "${name}": every`)
  return operate<
    T,
    T,
    { latest: { kind: 'table'; ttl: number }; ends: { kind: 'timers'; clock: 'event' } },
    { late: T }
  >({
    kind: 'sample',
    name,
    keyed: by ? 'by' : 'stream',
    state: { latest: { kind: 'table', ttl: every + 1 }, ends: { kind: 'timers', clock: 'event' } },
    sides: ['late'],
    start: ({ state: { latest, ends }, clock, emit, side, count }) => ({
      next(value, meta) {
        const { time } = meta
        const start = Math.floor(time / every) * every
        if (start + every <= clock.watermark) {
          count('late')
          side('late', value)
          return
        }
        const key = stateKey(by, value, meta)
        const place = `${start} ${key}`
        const before = latest.get(place) as Kept | undefined
        if (before !== undefined && before[0] > time) return
        latest.set(place, [time, value], start)
        if (before === undefined) ends.set(key, start + every - 1)
      },
      due({ key, time }) {
        const place = `${time + 1 - every} ${key}`
        const kept = latest.get(place) as Kept | undefined
        if (kept === undefined) return
        latest.delete(place)
        emit(kept[1] as T)
      },
    }),
  })
}
