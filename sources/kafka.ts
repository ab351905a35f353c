import type { StandardSchemaV1 } from '@standard-schema/spec'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { MAIN } from '../core/plan.ts'
import type { ConnectorContext, OpenSource, RawRecord, Source } from '../core/source.ts'
import { type SourceOptions, type SourceStream, stream } from '../core/stream.ts'
import { checkLogName, checkPartitions } from '../embedded/log.ts'
import { LATEST } from '../kafka/apis.ts'
import { type Cluster, clusterOf } from '../kafka/cluster.ts'
import { KafkaGroup } from '../kafka/group.ts'
import { type KafkaFrom, openPartition } from '../kafka/reader.ts'
import type { KafkaRecord } from '../kafka/records.ts'
import { type RegistryFormat, type SchemaRegistry, Schemas, withSchemas } from '../kafka/registry.ts'
import { checkConnection, clusterSettings, type KafkaConnection } from '../kafka/settings.ts'
import { type CreateTopic, checkCreate, openTopic } from '../kafka/topic.ts'
import { checkFrom, openEmbedded, type StartFrom } from './log.ts'

export type { KafkaFrom } from '../kafka/reader.ts'
export type { SchemaRegistry } from '../kafka/registry.ts'
export type { KafkaConnection, KafkaSasl } from '../kafka/settings.ts'

export interface KafkaOptions extends KafkaConnection {
  /** The topic's name. */
  topic: string
  /** Where to begin when there is no stored position; or offsets by partition. @default 'earliest' */
  from?: KafkaFrom
  /** The consumer group that workers share the partitions in. @default KAFKA_GROUP, or the pipeline's name */
  group?: string
  /** How long the group waits for a sign of life of a worker before it gives its partitions to others. @default KAFKA_SESSION_TIMEOUT, or '10s' */
  sessionTimeout?: Duration
  /** Makes the topic where there is none. @default it must be there */
  create?: CreateTopic
  /** How values are written: as JSON, or through a schema registry. The stand-in holds JSON in any case. @default 'json' */
  format?: 'json' | RegistryFormat
  /** Where the schemas are, for the formats that need one. */
  registry?: SchemaRegistry
  /** How many partitions the stand-in is made with. @default those of `create`, or 1 */
  partitions?: number
  /** The stream's name. @default the topic */
  name?: string
}

/** Reads a topic. Where no brokers are named, the embedded log of the topic's name under the data directory stands in. */
export function kafkaSource(options: KafkaOptions): Source {
  const { topic, from = 'earliest', group, create, partitions = create?.partitions, name = topic } = options
  const where = `kafka ${shown(topic)}`
  checkLogName(topic, 'kafka: topic')
  checkCreate(create, where)
  checkPartitions(partitions, where)
  checkKafkaFrom(from, where)
  checkConnection(options, where)
  if (group !== undefined && (typeof group !== 'string' || group === ''))
    throw new MillraceError('BAD_OPTION', `${where}: group must be a name, got ${shown(group)}`)
  checkFormat(options, where)
  const own = options.sessionTimeout
  if (own !== undefined) milliseconds(own, `${where}: sessionTimeout`)
  return {
    kind: 'kafka',
    name,
    system: 'kafka',
    async open(context, { untilEnd }) {
      const { env, pipeline, stage, dataDir } = context
      const settings = clusterSettings(options, env, where, `millrace-${pipeline}`)
      if (!settings) {
        if (!isStartFrom(from)) throw badFrom(where, "'earliest', 'latest' or a Date for the stand-in", from)
        const source = await openEmbedded({ kind: 'embedded-kafka', log: topic, partitions, from, untilEnd }, context)
        return { ...source, standIn: `the embedded log in ${dataDir}/logs/${topic}` }
      }
      const schemas = schemasOf(options, context, where)
      const cluster = clusterOf(settings, context)
      try {
        const waits = own ?? (env.KAFKA_SESSION_TIMEOUT as Duration | undefined) ?? '10s'
        const sessionTimeout = milliseconds(
          waits,
          `${where}: ${own === undefined ? 'KAFKA_SESSION_TIMEOUT' : 'sessionTimeout'}`,
        )
        const groupId = groupOf(group ?? env.KAFKA_GROUP ?? pipeline, stage)
        return await openCluster(
          cluster,
          { topic, from, create, untilEnd, name, groupId, sessionTimeout, schemas },
          context,
        )
      } catch (error) {
        await cluster.release()
        throw error
      }
    },
  }
}

export interface KafkaSourceOptions<S extends StandardSchemaV1> extends KafkaOptions, SourceOptions<S> {
  name?: string
}

/**
 * Reads a topic as a stream, each value JSON (or Avro, Protobuf, JSON Schema by a registry) that the schema checks.
 *
 * Every record of a partition is read once, in order: the position is committed with what came of it, in Millrace's own
 * store. Workers with the same `group` share the partitions; partition *i* of every topic of the pipeline goes to the same
 * worker. A position that the topic no longer has (retention was faster, or the topic was made anew) stops the pipeline,
 * and says so. Only what transactions have committed is read; a record without a value is `null`. Where no brokers are
 * named, the embedded log of the topic's name under the data directory stands in: the same partitions, offsets, keys and
 * timestamps, for one machine.
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

/** Stages are shared out apart: a member must read what all others of its group read. */
function groupOf(name: string, stage: string): string {
  return stage === MAIN ? name : `${name}.${stage}`
}

interface TopicOptions {
  readonly topic: string
  readonly from: KafkaFrom
  readonly create: CreateTopic | undefined
  readonly untilEnd: boolean
  readonly name: string
  readonly groupId: string
  readonly sessionTimeout: number
  readonly schemas: Schemas | undefined
}

async function openCluster(cluster: Cluster, options: TopicOptions, context: ConnectorContext): Promise<OpenSource> {
  const { topic, from, create, untilEnd, name, groupId, sessionTimeout, schemas } = options
  const { partitions } = await openTopic(cluster, topic, create)
  const all = Array.from({ length: partitions }, (_, partition) => partition)
  const ends = untilEnd ? await cluster.offsets(topic, all, LATEST) : []
  const group = context.share(
    `kafka-group ${cluster.settings.id} ${groupId}`,
    () => new KafkaGroup(groupId, cluster, context, sessionTimeout),
  )
  let closed = false
  return {
    identity: `kafka:${await cluster.clusterId()}:${topic}`,
    partitions,
    unit: 'records',
    group: group.add(name, topic, partitions),
    decode: schemas ? (record) => decodeWith(schemas, record) : decode,
    async reader(partition, stored) {
      const reader = await openPartition(cluster, topic, partition, { start: from, stored, end: ends[partition] })
      return schemas ? withSchemas(reader, schemas) : reader
    },
    async close() {
      if (closed) return
      closed = true
      await cluster.release()
    },
  }
}

function decodeWith(schemas: Schemas, record: RawRecord): unknown {
  return record.value === null ? null : schemas.decode(record.bytes() as Buffer, record.position)
}

function schemasOf(
  { format = 'json', registry = {} }: KafkaOptions,
  { env, runtime }: ConnectorContext,
  where: string,
): Schemas | undefined {
  if (format === 'json') return undefined
  const { url = env.SCHEMA_REGISTRY_URL } = registry
  if (!url) {
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: format '${format}' needs a schema registry: say registry: { url: 'https://…' }, or SCHEMA_REGISTRY_URL`,
    )
  }
  const { SCHEMA_REGISTRY_USERNAME: username, SCHEMA_REGISTRY_PASSWORD: password } = env
  const auth = registry.auth ?? (username && password ? { username, password } : undefined)
  return new Schemas(url, format, { ...registry, ...(auth && { auth }) }, runtime)
}

function checkFormat({ format = 'json', registry }: KafkaOptions, where: string): void {
  const formats = ['json', 'json-schema', 'avro', 'protobuf']
  if (!formats.includes(format))
    throw new MillraceError('BAD_OPTION', `${where}: format must be one of ${formats.join(', ')}, got ${shown(format)}`)
  const url = registry?.url
  if (url !== undefined && !/^https?:\/\//.test(url))
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: registry.url must begin with http:// or https://, got ${shown(url)}`,
    )
  if (registry?.readerSchema !== undefined && format !== 'avro')
    throw new MillraceError('BAD_OPTION', `${where}: registry.readerSchema is for format 'avro', got ${shown(format)}`)
}

function decode(record: RawRecord): unknown {
  const text = (record as KafkaRecord).text()
  if (text === null) return null
  let problem = 'JSON'
  try {
    // what is no UTF-8 was read as this sign; where it is meant, it is in the bytes as well
    if (!text.includes('\ufffd') || Buffer.from(text).equals(record.bytes())) return JSON.parse(text)
    problem = 'UTF-8'
  } catch {
    // Said below, without the payload that the parser's own message quotes.
  }
  throw new MillraceError(
    'UNDECODABLE',
    `record ${record.position} is not ${problem}; see its bytes in the dead letters`,
  )
}

const isStartFrom = (from: KafkaFrom): from is StartFrom => typeof from === 'string' || from instanceof Date

function checkKafkaFrom(from: KafkaFrom, where: string): void {
  const wanted = "'earliest', 'latest', a Date, or offsets like { 0: 100, 1: 250 }"
  if (typeof from !== 'object' || from === null || from instanceof Date) {
    try {
      checkFrom(from, where)
    } catch {
      throw badFrom(where, wanted, from)
    }
    return
  }
  const fits = ([partition, offset]: [string, unknown]) =>
    /^\d+$/.test(partition) && Number.isInteger(offset) && (offset as number) >= 0
  if (!Object.entries(from).every(fits)) throw badFrom(where, wanted, from)
}

function badFrom(where: string, wanted: string, from: unknown): MillraceError {
  return new MillraceError('BAD_OPTION', `${where}: from must be ${wanted}, got ${shown(from)}`)
}
