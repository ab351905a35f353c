import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Operator } from '../core/operator.ts'
import type { Aggregator } from './windows/aggregators.ts'
import { alignedWindows, type WindowOptions } from './windows/aligned.ts'
import { calendar } from './windows/calendar.ts'
import type { Late, Windowed } from './windows/tally.ts'

export interface HoppingOptions<T, A> extends WindowOptions<T, A> {
  /** How long a window is: a multiple of `every`. */
  size: Duration
  /** How long after one window the next one begins. */
  every: Duration
  /** Where midnight is, such as `'Europe/Berlin'`; it is where days begin. @default 'UTC' */
  timeZone?: string
}

/**
 * Computes something of each key's records in windows that overlap: the orders of the last hour, every five minutes.
 *
 * As `tumbling`, but a record is part of `size / every` windows. It is counted once, in its piece of `every`; a window is
 * put together from its pieces when it ends, for which an aggregator of one's own must be able to `merge`. State: one
 * entry a key and piece, until the last window that it is part of is over.
 *
 * @example
 * ```ts
 * const clicks = of({ at: 0 }, { at: 30_000 }, { at: 70_000 }).pipe(eventTime((e) => e.at))
 * const lately = hopping({ by: () => 'all', size: '2m', every: '1m', aggregate: (a) => ({ clicks: a.count() }) })
 * await lastValueFrom(clicks.pipe(lately, rxMap((w) => [w.start, w.clicks]), toArray())) // => [[-60_000, 2], [0, 3], [60_000, 1]]
 * ```
 */
export function hopping<T, A extends Record<string, Aggregator<any, any>>>(
  options: HoppingOptions<T, A>,
): Operator<T, Windowed<A>, { late: Late<T> }> {
  const where = `hopping "${options.name ?? 'hopping'}"`
  const size = milliseconds(options.size, `${where}: size`)
  const every = milliseconds(options.every, `${where}: every`)
  if (size % every !== 0 || size / every > 1_000) {
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: size must be a multiple of every, at most 1,000 times, got ${shown(options.size)} and ${shown(options.every)}`,
    )
  }
  return alignedWindows('hopping', options, calendar(every, options.timeZone, where), size / every)
}
