import { type Duration, milliseconds } from '../core/duration.ts'
import type { Operator } from '../core/operator.ts'
import type { Aggregator } from './windows/aggregators.ts'
import { alignedWindows, type WindowOptions } from './windows/aligned.ts'
import { calendar } from './windows/calendar.ts'
import type { Late, Windowed } from './windows/tally.ts'

export interface TumblingOptions<T, A> extends WindowOptions<T, A> {
  /** How long a window is. Whole days begin at midnight, whole weeks on Mondays. */
  size: Duration
  /** Where midnight is, such as `'Europe/Berlin'`: days there may have 23 or 25 hours. @default 'UTC' */
  timeZone?: string
}

/**
 * Computes something of each key's records in windows of time that follow one another: clicks an hour, visitors a day.
 *
 * A window is from its start up to, and not including, its end. Its result is given when the watermark reaches the end,
 * with the event time of its last millisecond; with `early` also before, and within `grace` again for every late event,
 * with the next `revision`. Written with `replace: { version: 'revision' }`, the last one stays. A record that is later
 * goes to the side stream `late`, counted. Windows without a record give nothing. State: one entry a key and window, until
 * it is over.
 *
 * @example
 * ```ts
 * const orders = of({ at: 0, who: 'a', eur: 5 }, { at: 1_000, who: 'a', eur: 7 }, { at: 61_000, who: 'a', eur: 1 })
 * const spent = tumbling({ by: (o: { who: string; eur: number }) => o.who, size: '1m', aggregate: (a) => ({ orders: a.count(), eur: a.sum((o) => o.eur) }) })
 * await lastValueFrom(orders.pipe(eventTime((o) => o.at), spent, rxMap((w) => [w.start, w.orders, w.eur]), toArray())) // => [[0, 2, 12], [60_000, 1, 1]]
 * ```
 */
export function tumbling<T, A extends Record<string, Aggregator<any, any>>>(
  options: TumblingOptions<T, A>,
): Operator<T, Windowed<A>, { late: Late<T> }> {
  const where = `tumbling "${options.name ?? 'tumbling'}"`
  const size = milliseconds(options.size, `${where}: size`)
  return alignedWindows('tumbling', options, calendar(size, options.timeZone, where), 1)
}
