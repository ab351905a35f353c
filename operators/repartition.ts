import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Key, keyText, type Meta, type Named, type Operator } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface RepartitionOptions extends Named {
  /**
   * What its log is called, and the stage behind it: `PIPELINE.NAME`. Needed where a pipeline has several.
   *
   * @default 'repartition'
   */
  name?: string
  /** How many partitions the log is made with. @default as many as the stage before has */
  partitions?: number
}

/**
 * Gives each record another key, and brings it to that key's partition: what stands behind it sees all records of a key
 * in one place, however many partitions and workers there are.
 *
 * The records go through a log of their own (in the data directory, or a Kafka topic where `KAFKA_BROKERS` is set), once
 * each, whatever crashes; what stands behind it is a stage with tasks, state and positions of its own. Their event times
 * and causes go with them, and so does the watermark: behind it time moves when it has moved in all tasks before it. Of
 * two records with one key, those from one task stay in their order. Values must be JSON; others become dead letters.
 * Keeps nothing but its log, of which what was read is dropped. On a plain Observable it passes values as they are.
 *
 * @param by gives a text, a finite number or a bigint
 * @example
 * ```ts
 * events.pipe(repartition((e) => e.itemId), tumbling({ size: '1h', aggregate: (a) => ({ views: a.count() }) }))
 * ```
 */
export function repartition<T>(by: (e: T, meta: Meta) => Key, options: RepartitionOptions = {}): Operator<T, T> {
  const { name = 'repartition', partitions } = options
  const where = `repartition ${shown(name)}`
  if (typeof by !== 'function')
    throw new MillraceError('BAD_OPTION', `repartition must be given a function of the record, got ${shown(by)}`)
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(name))
    throw new MillraceError('BAD_OPTION', `${where}: name must be of letters, digits, - and _, got ${shown(name)}`)
  if (partitions !== undefined && !(Number.isInteger(partitions) && partitions >= 1 && partitions <= 1_024))
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: partitions must be a whole number from 1 to 1024, got ${shown(partitions)}`,
    )
  return operate<T, T, {}>({
    kind: 'repartition',
    name,
    channel: { partitions },
    start: ({ emit }) => ({ next: (value, meta) => emit(value, keyText(by(value, meta), where)) }),
  })
}
