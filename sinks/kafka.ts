import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Encoder, OpenSink, RowMeta, Sink } from '../core/sink.ts'
import type { ConnectorContext } from '../core/source.ts'
import { checkLogName, checkPartitions } from '../embedded/log.ts'
import { type Cluster, clusterOf } from '../kafka/cluster.ts'
import { CODECS, type Compression } from '../kafka/compression.ts'
import { ProducerLane } from '../kafka/producer.ts'
import { rowText } from '../kafka/rows.ts'
import { checkConnection, clusterSettings, type KafkaConnection } from '../kafka/settings.ts'
import { type CreateTopic, checkCreate, openTopic } from '../kafka/topic.ts'
import { log } from './log.ts'

export interface KafkaSinkOptions<T> extends KafkaConnection {
  /** The topic's name. */
  topic: string
  /** Decides the partition, as Kafka's own clients do (murmur2); `null`: any. @default the row's key in the stream */
  key?: (row: T, meta: RowMeta) => string | number | bigint | null
  /** What is written, as JSON; `null` is a tombstone. @default the row */
  value?: (row: T, meta: RowMeta) => unknown
  /** Headers of the record, beside Millrace's own. */
  headers?: (row: T, meta: RowMeta) => Readonly<Record<string, string>>
  /** How batches are compressed. @default 'none' */
  compression?: Compression
  /** Makes the topic where there is none. @default it must be there */
  create?: CreateTopic
  /** How many partitions the stand-in is made with. @default those of `create`, or 1 */
  partitions?: number
}

/**
 * Writes rows to a topic, each as one record: the JSON of the row, with its key.
 *
 * Guarantee: idempotent. The broker drops what is sent to it again; after a crash, the end of each partition is read back
 * and only what is not there is sent. Each record says in two headers who wrote it and which it is (`mr-from`, `mr-seq`):
 * Millrace's readers drop what they had, so that it is exactly once for them whatever happens, and for other readers that do the
 * same. For readers that do not, a row may stand there twice: when a partition moves to another worker, or one that was taken
 * for dead goes on, while the former owner still has a request on its way.
 * Rows of one key stay in their order. Where no brokers are named, the embedded log stands in.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * events.to(kafka({ topic: 'clean-events', key: (e) => e.visitorId }))
 * ```
 */
export function kafka<T>(options: KafkaSinkOptions<T>): Sink<T> {
  const { topic, key, value, headers, compression = 'none', create, partitions = create?.partitions } = options
  const where = `kafka ${shown(topic)}`
  checkLogName(topic, 'kafka: topic')
  checkCreate(create, where)
  checkPartitions(partitions, where)
  checkConnection(options, where)
  for (const [option, given] of Object.entries({ key, value, headers })) {
    if (given === undefined || typeof given === 'function') continue
    throw new MillraceError('BAD_OPTION', `${where}: ${option} must be a function of the row, got ${shown(given)}`)
  }
  if (!(compression in CODECS)) {
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: compression must be one of ${Object.keys(CODECS).join(', ')}, got ${shown(compression)}`,
    )
  }
  const standIn = log<T>({
    log: topic,
    ...(key && { key }),
    ...(value && { value }),
    ...(partitions !== undefined && { partitions }),
  })
  const encoder: Encoder<T> = {
    head: 'sequence, tab, key, tab, headers, tab, value',
    row(row, meta) {
      const text = (key === undefined ? meta.key : key(row, meta)) ?? null
      return rowText(
        meta.version(),
        text === null ? null : String(text),
        headers?.(row, meta),
        encode(value === undefined ? row : value(row, meta), where),
      )
    },
  }
  return {
    kind: 'kafka',
    guarantee: 'idempotent',
    touches: 'state',
    system: 'kafka',
    async open(context): Promise<OpenSink<T>> {
      const settings = clusterSettings(options, context.env, where, `millrace-${context.pipeline}`)
      if (!settings) {
        const open = await standIn.open(context)
        return { ...open, standIn: `the embedded log in ${context.dataDir}/logs/${topic}` }
      }
      const cluster = clusterOf(settings, context)
      try {
        return await openKafkaSink(cluster, { topic, create, compression, encoder }, context)
      } catch (error) {
        await cluster.release()
        throw error
      }
    },
  }
}

/** A topic of a cluster as a sink, with an encoder whose rows are `rowText`s; takes the cluster's connection with it. */
export async function openKafkaSink<T>(
  cluster: Cluster,
  options: { topic: string; create: CreateTopic | undefined; compression: Compression; encoder: Encoder<T> },
  { output = '' }: ConnectorContext,
): Promise<OpenSink<T>> {
  const { topic, create, compression, encoder } = options
  const { partitions } = await openTopic(cluster, topic, create)
  const lanes = new Map<string, ProducerLane>()
  const lane = (task: string, receipt?: string) => {
    const made = new ProducerLane(cluster, { topic, partitions, compression }, `${task}/${output}`, lanes.size, receipt)
    lanes.set(task, made)
    return made
  }
  let closed = false
  return {
    identity: `kafka:${await cluster.clusterId()}:${topic}`,
    limit: { bytes: 4 * 1024 * 1024 },
    // each record has its sequence, by which it is known after a crash
    group: { rows: 50_000, bytes: 4 * 1024 * 1024, rowwise: true },
    encoder: () => encoder,
    async attach(task, receipt) {
      lane(task, receipt)
    },
    deliver: (delivery, signal) => (lanes.get(delivery.task) ?? lane(delivery.task)).deliver(delivery, signal),
    async close() {
      if (closed) return
      closed = true
      await cluster.release()
    },
  }
}

function encode(value: unknown, where: string): string | null {
  if (value === null) return null
  const text = JSON.stringify(value)
  if (text !== undefined) return text
  throw new MillraceError('NOT_JSON', `${where}: a row must be JSON or null, got ${shown(value)}; say \`value\``)
}
