import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Key, keyText, type Meta, type Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/**
 * Gives each record another key, which state behind it is kept by.
 *
 * The record stays in its partition: of a source with several, records of one new key may be in different tasks, each of
 * which then keeps its own state for it. Use it where the new key is finer than the source's (a person's devices), or the
 * source has one partition; otherwise take `repartition`. Keeps nothing. On a plain Observable, where no stream has a key, it passes values as they are.
 *
 * @param key gives a text, a finite number or a bigint
 * @example
 * ```ts
 * events.pipe(keyBy((e) => e.itemId), tumbling({ size: '1h', aggregate: (a) => ({ views: a.count() }) }))
 * ```
 */
export function keyBy<T>(key: (e: T, meta: Meta) => Key): Operator<T, T> {
  if (typeof key !== 'function')
    throw new MillraceError('BAD_OPTION', `keyBy must be given a function of the record, got ${shown(key)}`)
  return operate<T, T, {}>({
    kind: 'keyBy',
    start: ({ emit }) => ({ next: (value, meta) => emit(value, keyText(key(value, meta), 'keyBy')) }),
  })
}
