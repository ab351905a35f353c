import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Keyed, type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface ThrottleOptions<T> extends Keyed<T> {
  /** The time, in event time, in which no more than `atMost` records of a key pass. */
  per: Duration
  /** How many. @default 1 */
  atMost?: number
}

/**
 * Passes at most so many records of a key in any stretch of `per`; the others go to the side stream `throttled`.
 *
 * It decides in the order of arrival, by event time: a record that comes late counts where it belongs, and what passed
 * before it stays passed. State: the times of what passed in the last `per`, a key.
 *
 * @example
 * ```ts
 * const alerts = of({ at: 0 }, { at: 10_000 }, { at: 70_000 }).pipe(eventTime((e) => e.at))
 * await lastValueFrom(alerts.pipe(throttle({ by: () => 'ann', per: '1m' }), rxMap((e) => e.at), toArray())) // => [0, 70_000]
 * ```
 */
export function throttle<T>(options: ThrottleOptions<T>): Operator<T, T, { throttled: T }> {
  const { by, name = 'throttle', atMost = 1 } = options
  const per = milliseconds(options.per, `throttle "${name}": per`)
  if (!(Number.isInteger(atMost) && atMost >= 1 && atMost <= 10_000)) {
    throw new MillraceError(
      'BAD_OPTION',
      `throttle "${name}": atMost must be a whole number from 1 to 10,000, got ${shown(atMost)}`,
    )
  }
  return operate<T, T, { passed: { kind: 'table'; ttl: number } }, { throttled: T }>({
    kind: 'throttle',
    name,
    keyed: by ? 'by' : 'stream',
    state: { passed: { kind: 'table', ttl: per } },
    sides: ['throttled'],
    start: ({ state: { passed }, clock, emit, side }) => ({
      next(value, meta) {
        const { time } = meta
        const key = stateKey(by, value, meta)
        const times = (passed.get(key) as readonly number[] | undefined) ?? []
        if (isFull(times, time)) {
          side('throttled', value)
          return
        }
        const known = times.filter((each) => each + per > clock.watermark)
        const newest = Math.max(time, ...known)
        if (newest + per > clock.watermark)
          passed.set(
            key,
            [...known, time].sort((a, b) => a - b),
            newest,
          )
        emit(value)
      },
    }),
  })

  /** Whether some stretch of `per` with the time in it has its number already. */
  function isFull(times: readonly number[], time: number): boolean {
    const near = times.filter((each) => each > time - per && each < time + per)
    for (let i = 0; i + atMost <= near.length; i++) {
      const last = near[i + atMost - 1]!
      if (Math.max(last, time) - Math.min(near[i]!, time) < per) return true
    }
    return false
  }
}
