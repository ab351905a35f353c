import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Meta, Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/**
 * Shows each value to `look`, and passes it on as it is.
 *
 * Keeps nothing. For logs and counts only: after a crash a record is looked at again. A throw makes the record a dead letter.
 *
 * @example
 * ```ts
 * const seen: number[] = []
 * await lastValueFrom(of(1, 2).pipe(tap((n) => seen.push(n)), toArray())) // => [1, 2]
 * ```
 */
export function tap<T>(look: (e: T, meta: Meta) => unknown): Operator<T, T> {
  if (typeof look !== 'function')
    throw new MillraceError('BAD_OPTION', `tap must be given a function, got ${shown(look)}`)
  return operate<T, T, {}>({
    kind: 'tap',
    start: ({ emit }) => ({
      next: (value, meta) => {
        look(value, meta)
        emit(value)
      },
    }),
  })
}
