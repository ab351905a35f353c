import type { Decoder, Encoder } from './wire.ts'

/**
 * One kind of request: its number, the version that is spoken, and how it is written and read.
 *
 * The versions are the newest of the old encoding (without tagged fields). Brokers from 2.1 (zstd) to 4.x speak them:
 * what Kafka 4.0 removed is older (https://cwiki.apache.org/confluence/x/K5sODg, KIP-896).
 */
export interface Api<Q, R> {
  readonly name: string
  readonly key: number
  readonly version: number
  write(to: Encoder, request: Q): void
  read(from: Decoder): R
}

export interface Address {
  readonly host: string
  readonly port: number
}

interface Grouped<P> {
  readonly topic: string
  readonly partitions: readonly P[]
}

export interface TopicMetadata {
  readonly error: number
  readonly topic: string
  readonly partitions: readonly { readonly error: number; readonly partition: number; readonly leader: number }[]
}

export const METADATA: Api<
  { topics: readonly string[] },
  { brokers: (Address & { id: number })[]; clusterId: string | null; topics: TopicMetadata[] }
> = {
  name: 'Metadata',
  key: 3,
  version: 7,
  write: (to, { topics }) => to.array(topics, (topic) => to.string(topic)).boolean(false),
  read(from) {
    from.int32()
    const brokers = from.array(() => {
      const broker = { id: from.int32(), host: from.text(), port: from.int32() }
      from.string()
      return broker
    })
    const clusterId = from.string()
    from.int32()
    const topics = from.array(() => {
      const error = from.int16()
      const topic = from.text()
      from.boolean()
      const partitions = from.array(() => {
        const partition = { error: from.int16(), partition: from.int32(), leader: from.int32() }
        from.int32()
        for (let list = 0; list < 3; list++) from.array(() => from.int32())
        return partition
      })
      return { error, topic, partitions }
    })
    return { brokers, clusterId, topics }
  },
}

/** Times that stand for the ends of a partition in ListOffsets. */
export const LATEST = -1
export const EARLIEST = -2

export const LIST_OFFSETS: Api<
  { committed: boolean; topics: readonly Grouped<{ partition: number; time: number }>[] },
  (Grouped<{ partition: number; error: number; offset: number }> & {})[]
> = {
  name: 'ListOffsets',
  key: 2,
  version: 5,
  write: (to, { committed, topics }) =>
    to
      .int32(-1)
      .int8(committed ? 1 : 0)
      .array(topics, ({ topic, partitions }) =>
        to.string(topic).array(partitions, ({ partition, time }) => to.int32(partition).int32(-1).int64(time)),
      ),
  read(from) {
    from.int32()
    return from.array(() => ({
      topic: from.text(),
      partitions: from.array(() => {
        const partition = from.int32()
        const error = from.int16()
        from.int64()
        const offset = from.int64()
        from.int32()
        return { partition, error, offset }
      }),
    }))
  },
}

export const DELETE_RECORDS: Api<{ topic: string; partition: number; before: number }, { error: number }[]> = {
  name: 'DeleteRecords',
  key: 21,
  version: 1,
  write: (to, { topic, partition, before }) =>
    to.array([topic], () => to.string(topic).array([partition], () => to.int32(partition).int64(before))).int32(10_000),
  read(from) {
    from.int32()
    return from
      .array(() => {
        from.text()
        return from.array(() => {
          from.int32()
          from.int64()
          return { error: from.int16() }
        })
      })
      .flat()
  },
}

export const CREATE_TOPICS: Api<
  { topic: string; partitions: number; replication: number; settings: Readonly<Record<string, string>> },
  { error: number; message: string | null }[]
> = {
  name: 'CreateTopics',
  key: 19,
  version: 4,
  write: (to, { topic, partitions, replication, settings }) =>
    to
      .array([topic], () =>
        to
          .string(topic)
          .int32(partitions)
          .int16(replication)
          .array([], () => undefined)
          .array(Object.entries(settings), ([name, value]) => to.string(name).string(value)),
      )
      .int32(30_000)
      .boolean(false),
  read(from) {
    from.int32()
    return from.array(() => {
      from.text()
      return { error: from.int16(), message: from.string() }
    })
  },
}

export const FIND_COORDINATOR: Api<{ group: string }, { error: number; broker: Address & { id: number } }> = {
  name: 'FindCoordinator',
  key: 10,
  version: 2,
  write: (to, { group }) => to.string(group).int8(0),
  read(from) {
    from.int32()
    const error = from.int16()
    from.string()
    return { error, broker: { id: from.int32(), host: from.text(), port: from.int32() } }
  },
}

export const JOIN_GROUP: Api<
  {
    group: string
    sessionTimeout: number
    rebalanceTimeout: number
    member: string
    protocol: string
    subscription: Uint8Array
  },
  { error: number; generation: number; leader: string; member: string; members: { id: string; subscription: Buffer }[] }
> = {
  name: 'JoinGroup',
  key: 11,
  version: 5,
  write: (to, { group, sessionTimeout, rebalanceTimeout, member, protocol, subscription }) =>
    to
      .string(group)
      .int32(sessionTimeout)
      .int32(rebalanceTimeout)
      .string(member)
      .string(null)
      .string('consumer')
      .array([protocol], () => to.string(protocol).bytes(subscription)),
  read(from) {
    from.int32()
    const error = from.int16()
    const generation = from.int32()
    from.text()
    const leader = from.text()
    const member = from.text()
    const members = from.array(() => {
      const id = from.text()
      from.string()
      return { id, subscription: from.bytes() ?? Buffer.alloc(0) }
    })
    return { error, generation, leader, member, members }
  },
}

export const SYNC_GROUP: Api<
  {
    group: string
    generation: number
    member: string
    assignments: readonly { member: string; assignment: Uint8Array }[]
  },
  { error: number; assignment: Buffer }
> = {
  name: 'SyncGroup',
  key: 14,
  version: 3,
  write: (to, { group, generation, member, assignments }) =>
    to
      .string(group)
      .int32(generation)
      .string(member)
      .string(null)
      .array(assignments, (a) => to.string(a.member).bytes(a.assignment)),
  read(from) {
    from.int32()
    return { error: from.int16(), assignment: from.bytes() ?? Buffer.alloc(0) }
  },
}

export const HEARTBEAT: Api<{ group: string; generation: number; member: string }, { error: number }> = {
  name: 'Heartbeat',
  key: 12,
  version: 3,
  write: (to, { group, generation, member }) => to.string(group).int32(generation).string(member).string(null),
  read(from) {
    from.int32()
    return { error: from.int16() }
  },
}

export const LEAVE_GROUP: Api<{ group: string; member: string }, { error: number }> = {
  name: 'LeaveGroup',
  key: 13,
  version: 1,
  write: (to, { group, member }) => to.string(group).string(member),
  read(from) {
    from.int32()
    return { error: from.int16() }
  },
}

export const OFFSET_COMMIT: Api<
  {
    group: string
    generation: number
    member: string
    topics: readonly Grouped<{ partition: number; next: number; note: string }>[]
  },
  Grouped<{ partition: number; error: number }>[]
> = {
  name: 'OffsetCommit',
  key: 8,
  version: 7,
  write: (to, { group, generation, member, topics }) =>
    to
      .string(group)
      .int32(generation)
      .string(member)
      .string(null)
      .array(topics, ({ topic, partitions }) =>
        to
          .string(topic)
          .array(partitions, ({ partition, next, note }) => to.int32(partition).int64(next).int32(-1).string(note)),
      ),
  read(from) {
    from.int32()
    return from.array(() => ({
      topic: from.text(),
      partitions: from.array(() => ({ partition: from.int32(), error: from.int16() })),
    }))
  },
}

export const OFFSET_FETCH: Api<
  { group: string; topics: readonly Grouped<number>[] },
  { error: number; topics: Grouped<{ partition: number; next: number; note: string; error: number }>[] }
> = {
  name: 'OffsetFetch',
  key: 9,
  version: 5,
  write: (to, { group, topics }) =>
    to
      .string(group)
      .array(topics, ({ topic, partitions }) => to.string(topic).array(partitions, (partition) => to.int32(partition))),
  read(from) {
    from.int32()
    const topics = from.array(() => ({
      topic: from.text(),
      partitions: from.array(() => {
        const partition = from.int32()
        const next = from.int64()
        from.int32()
        return { partition, next, note: from.string() ?? '', error: from.int16() }
      }),
    }))
    return { topics, error: from.int16() }
  },
}

export interface FetchedPartition {
  readonly partition: number
  readonly error: number
  readonly highWatermark: number
  /** What is at or behind it belongs to transactions that have not ended. */
  readonly lastStable: number
  readonly logStart: number
  readonly aborted: readonly { readonly producer: bigint; readonly first: number }[]
  readonly records: Buffer | null
}

export const FETCH: Api<
  {
    maxWait: number
    maxBytes: number
    /** Only what transactions have committed. */
    committed: boolean
    topics: readonly Grouped<{ partition: number; offset: number; maxBytes: number }>[]
  },
  { error: number; topics: Grouped<FetchedPartition>[] }
> = {
  name: 'Fetch',
  key: 1,
  version: 11,
  write: (to, { maxWait, maxBytes, committed, topics }) =>
    to
      .int32(-1)
      .int32(maxWait)
      .int32(1)
      .int32(maxBytes)
      .int8(committed ? 1 : 0)
      .int32(0)
      .int32(-1)
      .array(topics, ({ topic, partitions }) =>
        to
          .string(topic)
          .array(partitions, (p) => to.int32(p.partition).int32(-1).int64(p.offset).int64(-1).int32(p.maxBytes)),
      )
      .array([], () => undefined)
      .string(''),
  read(from) {
    from.int32()
    const error = from.int16()
    from.int32()
    const topics = from.array(() => ({
      topic: from.text(),
      partitions: from.array(() => {
        const partition = from.int32()
        const error = from.int16()
        const highWatermark = from.int64()
        const lastStable = from.int64()
        const logStart = from.int64()
        const aborted = from.array(() => ({ producer: from.bigint64(), first: from.int64() }))
        from.int32()
        return { partition, error, highWatermark, lastStable, logStart, aborted, records: from.bytes() }
      }),
    }))
    return { error, topics }
  },
}

export const INIT_PRODUCER_ID: Api<Record<never, never>, { error: number; producer: bigint; epoch: number }> = {
  name: 'InitProducerId',
  key: 22,
  version: 1,
  write: (to) => to.string(null).int32(60_000),
  read(from) {
    from.int32()
    return { error: from.int16(), producer: from.bigint64(), epoch: from.int16() }
  },
}

export interface ProducedPartition {
  readonly partition: number
  readonly error: number
  readonly message: string | null
  readonly offset: number
  /** Records of the batch that were refused, by their place in it. */
  readonly refused: readonly { readonly record: number; readonly message: string | null }[]
}

export const PRODUCE: Api<
  { timeout: number; topic: string; partitions: readonly { partition: number; records: Uint8Array }[] },
  readonly ProducedPartition[]
> = {
  name: 'Produce',
  key: 0,
  version: 8,
  write: (to, { timeout, topic, partitions }) =>
    to
      .string(null)
      .int16(-1) // all replicas in sync
      .int32(timeout)
      .array([topic], () =>
        to.string(topic).array(partitions, ({ partition, records }) => to.int32(partition).bytes(records)),
      ),
  read(from) {
    const topics = from.array(() => {
      from.text()
      return from.array(() => {
        const partition = from.int32()
        const error = from.int16()
        const offset = from.int64()
        from.int64()
        from.int64()
        const refused = from.array(() => ({ record: from.int32(), message: from.string() }))
        return { partition, error, offset, refused, message: from.string() }
      })
    })
    return topics.flat()
  },
}
