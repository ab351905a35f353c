import type { StandardSchemaV1 } from '@standard-schema/spec'
import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Source } from '../core/source.ts'
import { type SourceOptions, type SourceStream, stream } from '../core/stream.ts'
import { checkLogName, checkPartitions } from '../embedded/log.ts'
import { checkFrom, openEmbedded, type StartFrom } from './log.ts'

export interface KafkaOptions {
  /** The topic's name. */
  topic: string
  /** Where to begin when there is no stored position. @default 'earliest' */
  from?: StartFrom
  /** `host:port`, comma-separated. @default KAFKA_BROKERS; where that is not set either, the embedded log stands in */
  brokers?: string
  /** How many partitions the stand-in is made with. @default 1 */
  partitions?: number
  /** The stream's name. @default the topic */
  name?: string
}

/**
 * Reads a topic. Where no brokers are named, the embedded log of the topic's name under the data directory stands in:
 * the same partitions, offsets, keys and timestamps, for one machine.
 */
export function kafkaSource({ topic, from = 'earliest', brokers, partitions, name = topic }: KafkaOptions): Source {
  const where = `kafka ${shown(topic)}`
  checkLogName(topic, 'kafka: topic')
  checkPartitions(partitions, where)
  checkFrom(from, where)
  if (brokers !== undefined) throw notYet(where, 'brokers')
  return {
    kind: 'kafka',
    name,
    system: 'kafka',
    async open(context, { untilEnd }) {
      if (context.env.KAFKA_BROKERS) throw notYet(where, 'KAFKA_BROKERS')
      const source = await openEmbedded({ kind: 'embedded-kafka', log: topic, partitions, from, untilEnd }, context)
      return { ...source, standIn: `the embedded log in ${context.dataDir}/logs/${topic}` }
    },
  }
}

export interface KafkaSourceOptions<S extends StandardSchemaV1> extends KafkaOptions, SourceOptions<S> {
  name?: string
}

/**
 * Reads a topic as a stream, each value JSON that the schema checks.
 *
 * Every record of a partition is read once, in order: the position is committed with what came of it, in Millrace's own
 * store. Where no brokers are named, the embedded log of the topic's name under the data directory stands in: the same
 * partitions, offsets, keys and timestamps, for one machine. A real Kafka is not in this version: naming one is refused.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * const Order = z.object({ id: z.string(), customer: z.string(), at: z.number() })
 * fromKafka({ topic: 'shop.orders', schema: Order, key: (o) => o.customer, time: (o) => o.at, lateness: '1m' })
 * ```
 */
export function fromKafka<S extends StandardSchemaV1>(
  options: KafkaSourceOptions<S>,
): SourceStream<StandardSchemaV1.InferOutput<S>, StandardSchemaV1.InferInput<S>> {
  return stream(kafkaSource(options), options)
}

function notYet(where: string, what: string): MillraceError {
  return new MillraceError(
    'BAD_OPTION',
    `${where}: ${what} names a real Kafka, which this version cannot read yet; ` +
      'leave it away, and the embedded log stands in',
  )
}
