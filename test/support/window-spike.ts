import { type Duration, milliseconds } from '../../core/duration.ts'
import { type Keyed, type Operator, splitKey, stateKey } from '../../core/operator.ts'
import { operate } from '../../core/standalone.ts'

export interface SpikeOptions<T> extends Keyed<T> {
  size: Duration
}

export interface Counted {
  readonly key: string
  readonly start: number
  readonly end: number
  readonly count: number
}

/**
 * A tumbling window that counts: a spike, written with what any author of an operator has, to see that the port carries
 * windows: keyed state with a time to live, timers, an emission at the watermark, and a side stream of what is too late.
 */
export function countWindow<T>({ by, size, name = 'window' }: SpikeOptions<T>): Operator<T, Counted, { late: T }> {
  const length = milliseconds(size, `${name}: size`)
  const startOf = (time: number) => Math.floor(time / length) * length
  return operate<
    T,
    Counted,
    { counts: { kind: 'table'; ttl: number }; ends: { kind: 'timers'; clock: 'event' } },
    { late: T }
  >({
    kind: 'window',
    name,
    keyed: by ? 'by' : 'stream',
    state: { counts: { kind: 'table', ttl: length + 1 }, ends: { kind: 'timers', clock: 'event' } },
    sides: ['late'],
    start: ({ state: { counts, ends }, clock, emit, side, count }) => ({
      next(value, meta) {
        const start = startOf(meta.time)
        const end = start + length
        if (end <= clock.watermark) {
          count('late')
          side('late', value)
          return
        }
        const key = stateKey(by, value, meta)
        const place = `${start} ${key}`
        counts.set(place, ((counts.get(place) as number | undefined) ?? 0) + 1, Math.max(meta.time, clock.watermark))
        // an event at the very end belongs to the next window: this one is over when the watermark reaches it
        ends.set(key, end - 1)
      },
      due({ key, time }) {
        const end = time + 1
        const place = `${end - length} ${key}`
        const held = counts.get(place) as number | undefined
        if (held === undefined) return
        counts.delete(place)
        emit({ key: by ? splitKey(key).by : key, start: end - length, end, count: held })
      },
    }),
  })
}
