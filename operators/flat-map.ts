import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Meta, Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/**
 * Gives none, one or many values for each: it filters, narrows and maps at once.
 *
 * Keeps nothing. What `project` gives is read to its end within the record's push; a throw makes the record a dead
 * letter, and takes back the values that it had given.
 *
 * @example
 * ```ts
 * await lastValueFrom(of(1, 2, 3).pipe(flatMap((n) => n > 1 && [n, n * n]), toArray())) // => [2, 4, 3, 9]
 * ```
 */
export function flatMap<T, R>(project: (e: T, meta: Meta) => Iterable<R> | false | null | undefined): Operator<T, R> {
  if (typeof project !== 'function')
    throw new MillraceError('BAD_OPTION', `flatMap must be given a function, got ${shown(project)}`)
  return operate<T, R, {}>({
    kind: 'flatMap',
    start: ({ emit }) => ({
      next: (value, meta) => {
        for (const given of project(value, meta) || []) emit(given)
      },
    }),
  })
}
