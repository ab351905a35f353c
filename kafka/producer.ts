import { messageOf } from '../core/errors.ts'
import type { Delivery, Outcome, RowRejection } from '../core/sink.ts'
import { murmur2, partitionOfHash } from '../embedded/log-partitioner.ts'
import { type Address, EARLIEST, INIT_PRODUCER_ID, LATEST, PRODUCE, type ProducedPartition } from './apis.ts'
import type { Cluster } from './cluster.ts'
import type { Compression } from './compression.ts'
import { ERROR, errorName, NotConnected, refusal } from './errors.ts'
import { Rows } from './rows.ts'
import { lastSequence } from './tails.ts'
import { Encoder } from './wire.ts'

/** Bytes of a record batch: brokers take a mebibyte by default. */
const BATCH = 1_000_000
/** Milliseconds that a broker has for one request; connections to each broker, over which lanes are spread. */
const TIMEOUT = 30_000
const CONNECTIONS = 4
/** Milliseconds that one attempt waits for what passes by itself. */
const PATIENCE = 3_000
/** Milliseconds that clocks may differ by, where a tail is looked for by its time. */
const SKEW = 600_000

/** Errors after which the broker has surely not appended the batch, and may do so later. */
const NOT_APPENDED = new Set<number>([
  ERROR.UNKNOWN_TOPIC_OR_PARTITION,
  ERROR.LEADER_NOT_AVAILABLE,
  ERROR.NOT_LEADER_OR_FOLLOWER,
  ERROR.NOT_ENOUGH_REPLICAS,
  ...[9, 29, 31, 56, 74, 75, 89],
])
/** Errors after which the broker will never append it as it is. */
const REFUSED = new Set<number>([
  ERROR.MESSAGE_TOO_LARGE,
  ERROR.RECORD_LIST_TOO_LARGE,
  ERROR.INVALID_RECORD,
  ERROR.INVALID_TIMESTAMP,
])
/** The broker no longer knows what this producer has sent. */
const FORGOTTEN = new Set<number>([
  ERROR.OUT_OF_ORDER_SEQUENCE_NUMBER,
  ERROR.UNKNOWN_PRODUCER_ID,
  ERROR.INVALID_PRODUCER_EPOCH,
])

interface Sending {
  readonly records: Buffer
  readonly count: number
  /** It was sent, and has not been answered. */
  inDoubt: boolean
}

/** What is left to do of a batch in one partition. */
interface Work {
  readonly partition: number
  readonly places: readonly number[]
  at: number
  most: number
  sending: Sending | undefined
}

/** Why a batch is not where it belongs; it is tried again at once when that passes by itself. */
interface Failure {
  readonly reason: string
  readonly passing: boolean
}

interface Batch {
  readonly name: string
  readonly rows: Rows
  readonly work: readonly Work[]
  readonly rejected: RowRejection[]
  /** A former life may have sent it, alone or with others. */
  unsure: boolean
  /** The broker no longer knows what was sent of it. */
  forgotten: boolean
}

/** The lane of one task and output to one topic: it sends a batch at a time, and remembers what is in doubt. */
export class ProducerLane {
  private readonly cluster: Cluster
  private readonly topic: string
  private readonly partitions: number
  private readonly compression: Compression
  private readonly name: string
  private readonly connection: number
  /** Of each partition, the offset behind what is known to be there of this lane, and the sequence of the last of it. */
  private readonly ends: Map<number, readonly [next: number, last: number]>
  private identity: { producer: bigint; epoch: number } | undefined
  private readonly sequences = new Map<number, number>()
  private batch: Batch | undefined
  private attempt: Promise<unknown> | undefined
  /** Of each partition that was looked at, the last sequence that a former life has sent to it. */
  private readonly former = new Map<number, number | undefined>()

  constructor(
    cluster: Cluster,
    to: { topic: string; partitions: number; compression: Compression },
    name: string,
    number: number,
    receipt: string | undefined,
  ) {
    this.cluster = cluster
    this.topic = to.topic
    this.partitions = to.partitions
    this.compression = to.compression
    this.name = name
    this.connection = number % CONNECTIONS
    const ends = JSON.parse(receipt ?? '{}') as Record<string, [number, number]>
    this.ends = new Map(Object.entries(ends).map(([partition, end]) => [Number(partition), end]))
  }

  async deliver(delivery: Delivery, signal: AbortSignal): Promise<Outcome> {
    // an attempt that was given up may still be under way
    await this.attempt
    if (signal.aborted) return { kind: 'notSent', reason: `${this.where}: given up before it was sent` }
    const { promise: aborted, resolve: abort } = Promise.withResolvers<Outcome>()
    const onAbort = () => abort({ kind: 'unknown', reason: `${this.where}: given up while it was on its way` })
    signal.addEventListener('abort', onAbort, { once: true })
    const attempt = this.prepare(delivery).then(
      (batch) => this.send(batch, delivery.stagedAt, signal),
      (error): Outcome => ({ kind: 'notSent', reason: messageOf(error) }),
    )
    this.attempt = attempt
    try {
      return await Promise.race([attempt, aborted])
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** All that is needed before the batch, or what is left of it, may be sent. */
  private async prepare(delivery: Delivery): Promise<Batch> {
    if (this.batch?.name !== delivery.name) this.batch = this.open(delivery)
    const { batch } = this
    this.identity ??= await this.cluster.patiently(() => this.identify(batch), { reached: true })
    if (batch.unsure || batch.forgotten) await this.skipSent(batch, delivery)
    return batch
  }

  private get where(): string {
    return `${this.cluster.name}: topic '${this.topic}'`
  }

  private async identify({ work }: Batch): Promise<{ producer: bigint; epoch: number }> {
    const answer = await this.cluster.ask(INIT_PRODUCER_ID, {})
    if (answer.error) throw refusal(this.where, answer.error)
    this.sequences.clear()
    for (const one of work) one.sending = undefined
    return answer
  }

  private open({ name, body, rows: count, afterUnknown }: Delivery): Batch {
    const keyless = partitionOfHash(murmur2(Buffer.from(name)), this.partitions)
    const rows = new Rows(body, count, this.partitions, keyless)
    const work = [...rows.byPartition].map(
      ([partition, places]): Work => ({ partition, places, at: 0, most: BATCH, sending: undefined }),
    )
    for (const one of work) skip(rows, one, this.ends.get(one.partition)?.[1])
    return { name, rows, work, rejected: [], unsure: afterUnknown, forgotten: false }
  }

  /** Passes over the rows that the topic has, from a life of before or of a producer that the broker has forgotten. */
  private async skipSent(batch: Batch, { stagedAt }: Delivery): Promise<void> {
    const { rows, work } = batch
    await Promise.all(
      work.map(async (one) => {
        const { partition } = one
        // what this life has sent to it since is before the rows of this batch
        if (batch.forgotten || !this.former.has(partition)) {
          const from = await this.tailOf(partition, stagedAt)
          const last = await lastSequence(this.cluster, this.topic, partition, { producer: this.name, from })
          this.former.set(partition, last)
        }
        skip(rows, one, this.former.get(partition))
      }),
    )
    batch.unsure = false
    batch.forgotten = false
  }

  /** Where the records that may be this lane's begin at the earliest. */
  private async tailOf(partition: number, stagedAt: number): Promise<number> {
    const offset = async (time: number) =>
      (await this.cluster.offsets(this.topic, [partition], time, { committed: false }))[0]!
    const [low, timed] = await Promise.all([offset(EARLIEST), offset(stagedAt - SKEW)])
    const byTime = timed < 0 ? await offset(LATEST) : timed
    return Math.max(low, byTime, this.ends.get(partition)?.[0] ?? 0)
  }

  /** Sends until every partition has answered, or one has no good answer. */
  private async send(batch: Batch, time: number, signal: AbortSignal): Promise<Outcome> {
    const { runtime } = this.cluster
    const end = runtime.elapsed() + PATIENCE
    for (;;) {
      const left = batch.work.filter(({ at, places }) => at < places.length)
      if (left.length === 0) {
        const receipt = JSON.stringify(Object.fromEntries(this.ends))
        this.batch = undefined
        return { kind: 'applied', receipt, ...(batch.rejected.length > 0 ? { rejected: batch.rejected } : {}) }
      }
      if (signal.aborted) return this.stopped(batch, `${this.where}: given up`)
      for (const work of left) work.sending ??= this.encode(batch, work, time)
      const failures = await this.exchange(batch, left)
      if (failures.length === 0) continue
      // a partition that has just got another leader has it in a moment
      const passing = failures.every(({ passing }) => passing) && runtime.elapsed() < end
      if (!passing) return this.stopped(batch, failures[0]!.reason)
      await runtime.sleep(50, signal)
    }
  }

  private encode({ rows }: Batch, { partition, places, at, most }: Work, time: number): Sending {
    const { producer: id, epoch } = this.identity!
    const sequence = this.sequences.get(partition) ?? 0
    const options = { name: this.name, id, epoch, sequence, time, most, codec: this.compression }
    return { ...rows.batch(places, at, options), inDoubt: false }
  }

  /** One request to each leader. Gives why something is still to be sent, apart from what comes next in any case. */
  private async exchange(batch: Batch, left: readonly Work[]): Promise<Failure[]> {
    if (left.some(({ partition }) => !this.cluster.leader(this.topic, partition))) {
      await this.cluster.refresh([this.topic]).catch(() => undefined)
    }
    const byLeader = new Map<Address, Work[]>()
    const failures: Failure[] = []
    for (const work of left) {
      const leader = this.cluster.leader(this.topic, work.partition)
      if (!leader) failures.push({ reason: `${this.where}: partition ${work.partition} has no leader`, passing: true })
      else if (byLeader.has(leader)) byLeader.get(leader)!.push(work)
      else byLeader.set(leader, [work])
    }
    await Promise.all(
      [...byLeader].map(async ([leader, works]) => {
        try {
          for (const answer of await this.produce(leader, works)) {
            const work = works.find(({ partition }) => partition === answer.partition)!
            const failure = this.answered(batch, work, answer)
            if (failure) failures.push(failure)
          }
        } catch (error) {
          // it may have been the wrong one to ask
          void this.cluster.refresh([this.topic]).catch(() => undefined)
          failures.push({ reason: `${this.where}: ${messageOf(error)}`, passing: false })
        }
      }),
    )
    return failures
  }

  private async produce(leader: Address, works: readonly Work[]): Promise<readonly ProducedPartition[]> {
    const partitions = works.map(({ partition, sending }) => ({ partition, records: sending!.records }))
    const size = partitions.reduce((sum, { records }) => sum + records.length + 32, 256)
    const request = new Encoder(size)
    PRODUCE.write(request, { timeout: TIMEOUT, topic: this.topic, partitions })
    const before = works.map(({ sending }) => sending!.inDoubt)
    for (const { sending } of works) sending!.inDoubt = true
    try {
      return await this.cluster.sendEncoded(
        leader,
        `produce ${this.connection}`,
        PRODUCE,
        request.done(),
        TIMEOUT + 5_000,
      )
    } catch (error) {
      if (error instanceof NotConnected) for (const [i, { sending }] of works.entries()) sending!.inDoubt = before[i]!
      throw error
    }
  }

  /** Takes in what a broker says of one partition; gives what keeps it from going on, if anything does. */
  private answered(batch: Batch, work: Work, answer: ProducedPartition): Failure | undefined {
    const { partition, sending } = work
    const { error } = answer
    if (error === 0 || error === ERROR.DUPLICATE_SEQUENCE_NUMBER) {
      const { count } = sending!
      const before = this.ends.get(partition)?.[0] ?? 0
      work.at += count
      const last = batch.rows.sequence(work.places[work.at - 1]!)
      this.ends.set(partition, [answer.offset < 0 ? before : answer.offset + count, last])
      work.sending = undefined
      this.sequences.set(partition, ((this.sequences.get(partition) ?? 0) + count) & 0x7fffffff)
      return undefined
    }
    const reason = `${this.where}: partition ${partition}: the broker answers ${errorName(error)}${answer.message ? ` (${answer.message})` : ''}`
    if (REFUSED.has(error)) return this.refused(batch, work, answer, reason)
    if (FORGOTTEN.has(error)) {
      // what it has is read from the topic, before what may be there is sent under a new number
      this.identity = undefined
      batch.forgotten = true
      return { reason, passing: false }
    }
    if (NOT_APPENDED.has(error)) {
      sending!.inDoubt = false
      void this.cluster.refresh([this.topic]).catch(() => undefined)
    }
    return { reason, passing: !sending!.inDoubt }
  }

  /** Nothing of the batch was appended: it is cut in two, down to the row that is the reason. */
  private refused(batch: Batch, work: Work, { refused }: ProducedPartition, reason: string): undefined {
    const { places, at, sending } = work
    const [first] = refused
    work.sending = undefined
    if (sending!.count > 1) {
      work.most = Math.max(
        1,
        first && first.record > 0 ? work.most / 4 : Math.min(work.most, sending!.records.length) / 2,
      )
      return
    }
    batch.rejected.push({ row: places[at]!, reason: first?.message ?? reason })
    work.at++
    work.most = BATCH
  }

  /** How an attempt ended that did not send all. */
  private stopped(batch: Batch, reason: string): Outcome {
    const doubt = batch.forgotten || batch.work.some(({ at, sending }) => at > 0 || sending?.inDoubt)
    return { kind: doubt ? 'unknown' : 'notSent', reason }
  }
}

/** Passes over the rows up to a sequence. */
function skip(rows: Rows, work: Work, last: number | undefined): void {
  const { places } = work
  while (last !== undefined && work.at < places.length && rows.sequence(places[work.at]!) <= last) work.at++
}
