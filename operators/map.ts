import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Meta, Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/** Not a Promise: `map(async …)` is an error at the place where it is written. */
type Sync<R> = R extends PromiseLike<unknown> ? 'a promise: use mapAsync' : unknown

/**
 * Gives each value as `project` makes it.
 *
 * Keeps nothing. A throw makes the record a dead letter, and takes back what it did elsewhere.
 *
 * @example
 * ```ts
 * await lastValueFrom(of(1, 2).pipe(map((n) => n * 10), toArray())) // => [10, 20]
 * ```
 */
export function map<T, R>(project: (e: T, meta: Meta) => R & Sync<R>): Operator<T, R> {
  if (typeof project !== 'function')
    throw new MillraceError('BAD_OPTION', `map must be given a function, got ${shown(project)}`)
  return operate<T, R, {}>({
    kind: 'map',
    start: ({ emit }) => ({ next: (value, meta) => emit(project(value, meta)) }),
  })
}
