import { Observable } from 'rxjs'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Operator, tie } from '../core/operator.ts'
import { withEventTime } from '../core/standalone.ts'

export interface EventTimeOptions {
  /** How far behind the newest value an older one may come. @default '0s' */
  lateness?: Duration
}

/**
 * Gives the values of a plain Observable their event time, which operators downstream go by.
 *
 * In a pipeline the source gives it, with its `time` option: there, this operator is refused. Operators that emit at
 * another moment, such as RxJS's `delay`, lose it. A throw, or a time that is no number, is an error of the stream.
 * Keeps nothing but the newest time.
 *
 * @param time gives epoch milliseconds
 * @example
 * ```ts
 * const events = of({ at: 0, what: 'cart' }, { at: 3_600_000, what: 'view' }).pipe(eventTime((e) => e.at))
 * const left = absence({ by: () => 'all', after: (e: { what: string }) => e.what === 'cart', unless: () => false, within: '30m' })
 * await lastValueFrom(events.pipe(left, rxMap((a) => a.at), toArray())) // => [1_800_000]
 * ```
 */
export function eventTime<T>(time: (e: T) => number, options: EventTimeOptions = {}): Operator<T, T> {
  if (typeof time !== 'function')
    throw new MillraceError('BAD_OPTION', `eventTime must be given a function, got ${shown(time)}`)
  const lateness = milliseconds(options.lateness ?? '0s', 'eventTime: lateness', { zero: true })
  const timed = (source: Observable<T>) =>
    new Observable<T>((to) => {
      let newest = Number.NEGATIVE_INFINITY
      return source.subscribe({
        next(value) {
          let at: number
          try {
            at = time(value)
            if (!Number.isFinite(at))
              throw new MillraceError('UNDECODABLE', `eventTime must give epoch milliseconds, got ${shown(at)}`)
          } catch (error) {
            to.error(error)
            return
          }
          newest = Math.max(newest, at)
          withEventTime({ time: at, watermark: newest - lateness }, () => to.next(value))
        },
        error: (error) => to.error(error),
        complete: () => to.complete(),
      })
    })
  return tie<T, T, {}>(timed, {
    kind: 'eventTime',
    plainOnly: 'in a pipeline the source gives event time: use its time option',
  })
}
