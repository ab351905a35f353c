import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Meta, Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/**
 * Passes the values that `test` says yes to, and narrows their type when `test` is a type predicate.
 *
 * Keeps nothing. A throw makes the record a dead letter.
 *
 * @example
 * ```ts
 * await lastValueFrom(of(1, 2, 3).pipe(filter((n) => n % 2 === 1), toArray())) // => [1, 3]
 * ```
 */
export function filter<T, A extends T>(test: (e: T, meta: Meta) => e is A): Operator<T, A>
export function filter<T>(test: (e: T, meta: Meta) => boolean): Operator<T, T>
export function filter<T>(test: (e: T, meta: Meta) => boolean): Operator<T, T> {
  if (typeof test !== 'function')
    throw new MillraceError('BAD_OPTION', `filter must be given a function, got ${shown(test)}`)
  return operate<T, T, {}>({
    kind: 'filter',
    start: ({ emit }) => ({
      next: (value, meta) => {
        if (test(value, meta)) emit(value)
      },
    }),
  })
}
