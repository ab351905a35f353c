import { MillraceError, messageOf } from '../core/errors.ts'
import type { Group, GroupMember, GroupRecord } from '../core/group.ts'
import type { ConnectorContext } from '../core/source.ts'
import { type Address, OFFSET_COMMIT, OFFSET_FETCH } from './apis.ts'
import type { Cluster } from './cluster.ts'
import { refusal } from './errors.ts'
import { Membership } from './membership.ts'

/**
 * A consumer group as a worker's Kafka sources use it together: partition *i* of every topic goes to the same worker.
 *
 * Its offsets are written for lag tools and as a witness; positions are the store's.
 */
export class KafkaGroup implements Group {
  readonly name: string
  private readonly id: string
  private readonly cluster: Cluster
  private readonly context: ConnectorContext
  private readonly sessionTimeout: number
  private readonly sources = new Map<string, { topic: string; partitions: number }>()
  private membership: Membership | undefined
  private coordinator: Address | undefined

  constructor(id: string, cluster: Cluster, context: ConnectorContext, sessionTimeout: number) {
    this.id = id
    this.name = `the consumer group '${id}'`
    this.cluster = cluster
    this.context = context
    this.sessionTimeout = sessionTimeout
  }

  /** Counts a source in. */
  add(source: string, topic: string, partitions: number): this {
    this.sources.set(source, { topic, partitions })
    return this
  }

  async join(member: GroupMember): Promise<void> {
    const sources = [...this.sources.values()]
    const partitions = sources[0]!.partitions
    const other = sources.find((source) => source.partitions !== partitions)
    if (other) {
      throw new MillraceError(
        'BAD_PIPELINE',
        `${this.name}: topic '${sources[0]!.topic}' has ${partitions} partitions, and '${other.topic}' has ${other.partitions}: topics that meet in one pipeline must have as many`,
      )
    }
    const { sessionTimeout } = this
    const topics = this.topics()
    const membership = new Membership(
      this.cluster.retain(),
      { group: this.id, topics, partitions, sessionTimeout },
      member,
      this.context.logger,
    )
    try {
      await membership.start()
    } catch (error) {
      await this.cluster.release()
      throw error
    }
    this.membership = membership
  }

  async recorded(partition: number): Promise<Readonly<Record<string, GroupRecord>>> {
    const topics = this.topics().map((topic) => ({ topic, partitions: [partition] }))
    return this.cluster.patiently(async () => {
      const coordinator = await this.cluster.coordinator(this.id)
      const answer = await this.cluster
        .send(coordinator, 'control', OFFSET_FETCH, { group: this.id, topics })
        .catch((error) => {
          throw this.cluster.unreachable(error)
        })
      const found = new Map<string, GroupRecord>()
      for (const { topic, partitions } of answer.topics) {
        const [{ next, note, error } = { next: -1, note: '', error: 0 }] = partitions
        const failed = answer.error || error
        if (failed) throw refusal(`${this.cluster.name}: the offsets of ${this.name}`, failed)
        if (next >= 0) found.set(topic, { next, note })
      }
      return Object.fromEntries(
        [...this.sources].flatMap(([source, { topic }]) => (found.has(topic) ? [[source, found.get(topic)!]] : [])),
      )
    })
  }

  async record(partition: number, records: Readonly<Record<string, GroupRecord>>): Promise<void> {
    const topics = new Map<string, GroupRecord>()
    for (const [source, record] of Object.entries(records)) {
      const { topic } = this.sources.get(source)!
      const other = topics.get(topic)
      if (!other || record.next < other.next) topics.set(topic, record)
    }
    const { membership } = this
    const member = { generation: membership?.generation ?? -1, member: membership?.memberId ?? '' }
    let answer: Awaited<ReturnType<typeof this.commit>>
    try {
      answer = await this.commit(
        [...topics].map(([topic, record]) => ({ topic, partitions: [{ partition, ...record }] })),
        member,
      )
    } catch (error) {
      throw new MillraceError(
        'SOURCE_FAILED',
        `${this.cluster.name}: the offsets of ${this.name} cannot be written: ${messageOf(error)}`,
        {
          cause: error,
          retriable: true,
        },
      )
    }
    const failed = answer.flatMap(({ partitions }) => partitions).find(({ error }) => error !== 0)
    if (failed) this.coordinator = undefined
    if (failed) throw refusal(`${this.cluster.name}: the offsets of ${this.name}`, failed.error)
  }

  async leave(): Promise<void> {
    const { membership } = this
    this.membership = undefined
    if (!membership) return
    await membership.leave()
    await this.cluster.release()
  }

  private async commit(
    topics: readonly { topic: string; partitions: readonly { partition: number; next: number; note: string }[] }[],
    member: { generation: number; member: string },
  ) {
    this.coordinator ??= await this.cluster.coordinator(this.id)
    try {
      return await this.cluster.send(this.coordinator, 'control', OFFSET_COMMIT, { group: this.id, ...member, topics })
    } catch (error) {
      this.coordinator = undefined
      throw error
    }
  }

  private topics(): string[] {
    return [...new Set([...this.sources.values()].map(({ topic }) => topic))].sort()
  }
}
