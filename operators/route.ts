import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Meta, Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

type Predicate<T> = (e: T, meta: Meta) => boolean
/** What is left of T when the predicate F (written or inferred as `e is A`) has said yes. */
type Narrow<F, T> = F extends (e: any, ...rest: any) => e is infer A ? A : T
type Tagged<N, V> = N extends string ? { readonly from: N; readonly value: V } : never
/** A value with the name of the case that took it. */
export type Routed<T, C> = { [P in keyof C & string]: Tagged<P, Narrow<C[P], T>> }[keyof C & string] | Tagged<'rest', T>

/**
 * Gives each value with the name of the first case that says yes to it, or with `rest`: `.split()` in one stream.
 *
 * TypeScript knows the value by the name, where a case is a type predicate. Keeps nothing.
 *
 * @example
 * ```ts
 * await lastValueFrom(of(1, 20, 300).pipe(route({ small: (n) => n < 10, large: (n) => n > 100 }), rxMap((r) => r.from), toArray())) // => ['small', 'rest', 'large']
 * ```
 */
export function route<T, C extends Record<string, Predicate<T>>>(cases: C): Operator<T, Routed<T, C>> {
  const names = Object.keys(cases ?? {})
  if (names.length === 0)
    throw new MillraceError('BAD_OPTION', `route must be given at least one case, got ${shown(cases)}`)
  for (const name of names) {
    if (typeof cases[name] !== 'function')
      throw new MillraceError(
        'BAD_OPTION',
        `route: ${name} must be a function of the record, got ${shown(cases[name])}`,
      )
  }
  return operate<T, Routed<T, C>, {}>({
    kind: 'route',
    start: ({ emit }) => ({
      next(value, meta) {
        const from = names.find((name) => cases[name]!(value, meta)) ?? 'rest'
        emit({ from, value } as unknown as Routed<T, C>)
      },
    }),
  })
}
