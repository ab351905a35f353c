import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Meta, Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/** What a source says of a record, field by field: `undefined` says nothing, `null` clears the field. */
export interface Patch<F> {
  readonly set: F
  readonly version?: number | bigint
  readonly deleted?: boolean
}

export interface PatchOptions<T> {
  /** The source's own number of the change, such as a log sequence number: it decides between two changes of this source. @default the event time */
  version?: (e: T) => number | bigint
  /** Whether the record is deleted. @default never */
  deleted?: (e: T) => boolean
}

/**
 * Makes of each record what it says of the fields that `reconcile` keeps.
 *
 * Keeps nothing. A throw makes the record a dead letter.
 *
 * @param set the fields: `undefined` says nothing of one, `null` clears it
 * @example
 * ```ts
 * const rows = of({ id: 7, mail: 'ann@example.com', lsn: 12n })
 * await lastValueFrom(rows.pipe(patch((r) => ({ email: r.mail }), { version: (r) => r.lsn }), rxMap((p) => [p.set.email, p.version]), toArray())) // => [['ann@example.com', 12n]]
 * ```
 */
export function patch<T, F extends object>(
  set: (e: T, meta: Meta) => F,
  options: PatchOptions<NoInfer<T>> = {},
): Operator<T, Patch<F>> {
  const { version, deleted } = options
  for (const [name, given] of Object.entries({ set, version, deleted })) {
    if (given !== undefined && typeof given !== 'function')
      throw new MillraceError('BAD_OPTION', `patch: ${name} must be a function of the record, got ${shown(given)}`)
  }
  return operate<T, Patch<F>, {}>({
    kind: 'patch',
    start: ({ emit }) => ({
      next: (value, meta) =>
        emit({
          set: set(value, meta),
          ...(version ? { version: version(value) } : {}),
          ...(deleted?.(value) ? { deleted: true } : {}),
        }),
    }),
  })
}
