import { messageOf } from '../core/errors.ts'
import type { GroupMember } from '../core/group.ts'
import type { Logger } from '../core/logger.ts'
import { type Address, HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP } from './apis.ts'
import { assign, type Candidate, type Share } from './assign.ts'
import type { Cluster } from './cluster.ts'
import { ERROR, errorName, refusal } from './errors.ts'
import { Decoder, Encoder } from './wire.ts'

/** What a member calls the way in which partitions are shared out: all members of a group must know it. */
export const PROTOCOL = 'millrace-cooperative-sticky'

/** Milliseconds between two signs of life; each may bring the news that the group changes. */
const BEAT = 500

const REJOIN: ReadonlySet<number> = new Set([
  ERROR.REBALANCE_IN_PROGRESS,
  ERROR.ILLEGAL_GENERATION,
  ERROR.UNKNOWN_MEMBER_ID,
])

export interface MembershipOptions {
  readonly group: string
  readonly topics: readonly string[]
  readonly partitions: number
  /** Milliseconds without a sign of life after which the group goes on without a member. */
  readonly sessionTimeout: number
}

/** One worker in a consumer group: it joins, says that it lives, joins again whenever the group changes, and leaves. */
export class Membership {
  private readonly cluster: Cluster
  private readonly options: MembershipOptions
  private readonly member: GroupMember
  private readonly logger: Logger
  private readonly stopping = new AbortController()
  private coordinator: Address | undefined
  private id = ''
  /** What was given to it and is not given up, each partition with the generation in which it was given last. */
  private readonly owned = new Map<number, number>()
  private ownedIn = -1
  /** It has given up what others wait for, and has not told the group. */
  private gaveUp = false
  private wake: (() => void) | undefined
  private running: Promise<void> | undefined
  generation = -1

  constructor(cluster: Cluster, options: MembershipOptions, member: GroupMember, logger: Logger) {
    this.cluster = cluster
    this.options = options
    this.member = member
    this.logger = logger
  }

  get memberId(): string {
    return this.id
  }

  /** @throws MillraceError SOURCE_FAILED when the group's coordinator cannot be reached */
  async start(): Promise<void> {
    this.coordinator = await this.cluster.patiently(() => this.cluster.coordinator(this.options.group))
    this.running = this.run()
  }

  /** Leaves the group, so that others get its partitions at once. */
  async leave(): Promise<void> {
    if (this.stopping.signal.aborted) return
    this.stopping.abort('left')
    this.wake?.()
    const { coordinator, id: member } = this
    if (coordinator && member !== '') {
      // a join that waits on its own connection is answered by this
      await this.cluster
        .send(coordinator, 'control', LEAVE_GROUP, { group: this.options.group, member }, 5_000)
        .catch((error) => {
          this.logger.warn(
            {},
            `${this.name} goes on without this worker only after ${this.options.sessionTimeout} ms: ${messageOf(error)}`,
          )
        })
    }
    await this.cluster.disconnect('group')
    await this.running
  }

  private get name(): string {
    return `the consumer group '${this.options.group}'`
  }

  private async run(): Promise<void> {
    const { runtime } = this.cluster
    const { signal } = this.stopping
    let failures = 0
    let unseen = runtime.elapsed()
    let joined = false
    while (!signal.aborted) {
      try {
        this.coordinator ??= await this.cluster.coordinator(this.options.group)
        if (!joined || this.gaveUp) {
          joined = false
          this.gaveUp = false
          await this.join()
          joined = true
        } else {
          await this.pause()
          if (signal.aborted) return
          if (!this.gaveUp) await this.beat()
        }
        failures = 0
        unseen = runtime.elapsed()
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof Rejoin) {
          if (error.code !== ERROR.MEMBER_ID_REQUIRED) this.member.rebalancing()
          if (error.code === ERROR.UNKNOWN_MEMBER_ID) this.id = ''
          joined = false
          continue
        }
        const failure = this.cluster.unreachable(error)
        if (!failure.retriable) {
          this.member.failed(failure)
          return
        }
        if (failures === 0) this.logger.warn({}, `${this.name}: ${failure.message}; trying again`)
        // by now the group may have given its partitions to others
        if (joined && runtime.elapsed() - unseen > this.options.sessionTimeout) {
          this.member.rebalancing()
          joined = false
        }
        this.coordinator = undefined
        await runtime.sleep(Math.min(1_000, 50 * 2 ** Math.min(failures++, 5)), signal)
      }
    }
  }

  /** Until the next sign of life is due, or there is something to tell. */
  private async pause(): Promise<void> {
    const over = new AbortController()
    this.wake = () => over.abort('woken')
    if (!this.gaveUp && !this.stopping.signal.aborted) await this.cluster.runtime.sleep(BEAT, over.signal)
  }

  private async beat(): Promise<void> {
    const { group } = this.options
    const { error } = await this.cluster.send(
      this.coordinator!,
      'group',
      HEARTBEAT,
      { group, generation: this.generation, member: this.id },
      Math.max(1_000, this.options.sessionTimeout / 2),
    )
    this.refuse(error)
  }

  private async join(): Promise<void> {
    const { group, topics, partitions, sessionTimeout } = this.options
    const claimed = [...this.owned.keys()]
    const subscription = writeSubscription(topics, this.owned)
    // members hear of a change with their next sign of life, so that waiting longer for one than for a dead one is in vain
    const request = {
      group,
      sessionTimeout,
      rebalanceTimeout: sessionTimeout,
      member: this.id,
      protocol: PROTOCOL,
      subscription,
    }
    const joined = await this.cluster.send(this.coordinator!, 'group', JOIN_GROUP, request, sessionTimeout + 10_000)
    if (joined.error === ERROR.MEMBER_ID_REQUIRED) this.id = joined.member
    this.refuse(joined.error)
    this.id = joined.member
    this.generation = joined.generation
    const shares =
      joined.leader === joined.member
        ? assign(
            partitions,
            joined.members.map(({ id, subscription: given }) => readSubscription(id, given)),
          )
        : new Map<string, Share>()
    const synced = await this.cluster.send(
      this.coordinator!,
      'group',
      SYNC_GROUP,
      {
        group,
        generation: joined.generation,
        member: joined.member,
        assignments: [...shares].map(([member, share]) => ({ member, assignment: writeAssignment(topics, share) })),
      },
      sessionTimeout + 10_000,
    )
    this.refuse(synced.error)
    this.ownedIn = joined.generation
    if (!this.stopping.signal.aborted) this.take(claimed, readAssignment(synced.assignment))
  }

  /** Takes its share, and tells the group when what it has no longer is given up. */
  private take(claimed: readonly number[], { partitions, coming }: Share): void {
    const { owned, ownedIn } = this
    for (const partition of partitions) owned.set(partition, ownedIn)
    const ended = this.member.assigned(partitions, coming.length)
    const lost = claimed.filter((partition) => !partitions.includes(partition))
    if (lost.length === 0) return
    const limit = new AbortController()
    void Promise.race([ended, this.cluster.runtime.sleep(this.options.sessionTimeout, limit.signal)]).then(() => {
      limit.abort('over')
      // what was claimed at the last joining, this with it, is seen to by what came of that
      if (this.ownedIn !== ownedIn) return
      // deletes each, and says whether that is news
      if (lost.filter((partition) => owned.delete(partition)).length === 0) return
      this.gaveUp = true
      this.wake?.()
    })
  }

  private refuse(code: number): void {
    if (code === 0) return
    if (REJOIN.has(code) || code === ERROR.MEMBER_ID_REQUIRED) throw new Rejoin(code)
    const hint =
      errorName(code) === 'INCONSISTENT_GROUP_PROTOCOL'
        ? 'another program is in the group; give this pipeline a group of its own'
        : null
    throw refusal(`${this.cluster.name}: ${this.name}`, code, hint)
  }
}

class Rejoin extends Error {
  readonly code: number

  constructor(code: number) {
    super(errorName(code))
    this.code = code
  }
}

/** Subscription and assignment as Kafka's own tools read them (ConsumerProtocol, version 0), with what sticks in the user data. */
export function writeSubscription(topics: readonly string[], owned: ReadonlyMap<number, number>): Buffer {
  const mine = new Encoder()
  mine.array([...owned], ([partition, generation]) => mine.int32(partition).int32(generation))
  const whole = new Encoder()
  return whole
    .int16(0)
    .array(topics, (topic) => whole.string(topic))
    .bytes(mine.done())
    .done()
}

export function readSubscription(id: string, bytes: Buffer): Candidate {
  const whole = new Decoder(bytes)
  whole.int16()
  whole.array(() => whole.string())
  const mine = whole.bytes()
  if (!mine || mine.length === 0) return { id, owned: new Map() }
  const from = new Decoder(mine)
  return { id, owned: new Map(from.array(() => [from.int32(), from.int32()] as const)) }
}

function writeAssignment(topics: readonly string[], { partitions, coming }: Share): Buffer {
  const later = new Encoder()
  later.array(coming, (partition) => later.int32(partition))
  const to = new Encoder()
  return to
    .int16(0)
    .array(topics, (topic) => to.string(topic).array(partitions, (partition) => to.int32(partition)))
    .bytes(later.done())
    .done()
}

function readAssignment(bytes: Buffer): Share {
  if (bytes.length === 0) return { partitions: [], coming: [] }
  const from = new Decoder(bytes)
  from.int16()
  const topics = from.array(() => {
    from.string()
    return from.array(() => from.int32())
  })
  const later = from.bytes()
  const rest = later && later.length > 0 ? new Decoder(later) : undefined
  return { partitions: topics[0] ?? [], coming: rest ? rest.array(() => rest.int32()) : [] }
}
