import { MillraceError, messageOf } from '../core/errors.ts'
import { type Address, EARLIEST, FETCH, type FetchedPartition, LATEST } from './apis.ts'
import type { Cluster } from './cluster.ts'
import { ERROR, refusal } from './errors.ts'
import { Chunk, type KafkaRecord } from './records.ts'

/** Bytes: that a partition is fetched with at once, that it may have waiting here before no more is fetched, of an answer. */
const PARTITION = 1024 * 1024
const WAITING = 1024 * 1024
const ANSWER = 16 * 1024 * 1024
/** Milliseconds that a broker holds a request while it has nothing to give. */
const MAX_WAIT = 250
/** Requests on their way to a broker: while one waits for news, another brings what is there. */
const SLOTS = 2

/** What is read of one partition: fetched ahead, up to a bound, and taken by its reader. */
export class Feed {
  readonly topic: string
  readonly partition: number
  /** The offset that is fetched next. */
  offset: number
  highWatermark: number | undefined
  /** The last answer held nothing behind `offset`. */
  atHead = false
  failure: MillraceError | undefined
  fetching = false
  retryAt = 0
  failures = 0
  private readonly where: string
  private readonly fetcher: Fetcher
  private chunks: Chunk[] = []
  private waiting = 0
  private wake: (() => void)[] = []
  private closed = false

  constructor(fetcher: Fetcher, topic: string, partition: number, offset: number, where: string) {
    this.fetcher = fetcher
    this.topic = topic
    this.partition = partition
    this.offset = offset
    this.where = where
  }

  get room(): boolean {
    return this.waiting < WAITING
  }

  get empty(): boolean {
    return this.chunks.length === 0
  }

  /** The next records at or behind `from`, as far as they are here. @throws MillraceError when what was fetched is damaged */
  take(from: number, limit: { records: number; bytes: number }): KafkaRecord[] {
    const records: KafkaRecord[] = []
    let left = limit.bytes
    while (this.chunks.length > 0 && records.length < limit.records && left > 0) {
      const chunk = this.chunks[0]!
      left -= chunk.read(
        records,
        from,
        { records: limit.records, bytes: left },
        `${this.where} partition ${this.partition}`,
      )
      if (!chunk.done) continue
      this.chunks.shift()
      this.waiting -= chunk.bytes
      if (this.room) this.fetcher.pump()
    }
    return records
  }

  /** Resolves when something has come, the head was reached, it failed, or it was closed. */
  changed(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    if (this.closed) resolve()
    else this.wake.push(resolve)
    return promise
  }

  get isClosed(): boolean {
    return this.closed
  }

  close(): void {
    this.closed = true
    this.chunks = []
    this.fetcher.remove(this)
    this.notify()
  }

  /** Takes in what a broker answered. */
  fetched(answer: FetchedPartition): void {
    this.failure = undefined
    this.failures = 0
    this.highWatermark = answer.highWatermark
    if (answer.records && answer.records.length > 0) {
      const chunk = new Chunk(answer.records, answer.aborted)
      if (chunk.bytes > 0) {
        this.offset = chunk.next
        this.chunks.push(chunk)
        this.waiting += chunk.bytes
      }
    }
    this.atHead = this.offset >= answer.lastStable
    this.notify()
  }

  failed(error: MillraceError, now: number): void {
    this.failure = error
    this.atHead = false
    this.retryAt = now + Math.min(1_000, 50 * 2 ** Math.min(this.failures++, 5))
    this.notify()
  }

  private notify(): void {
    const waiting = this.wake
    this.wake = []
    for (const resolve of waiting) resolve()
  }
}

/** Fetches for all feeds of a cluster: at most two requests a broker at a time, each for every feed that has room. */
export class Fetcher {
  private readonly cluster: Cluster
  private readonly feeds = new Set<Feed>()
  private readonly busy = new Set<string>()
  private refreshing = false
  /** When `pump` is called next for a feed that failed. */
  private alarm = Number.POSITIVE_INFINITY
  /** Fetching fails, and that was said. */
  private away = false

  constructor(cluster: Cluster) {
    this.cluster = cluster
  }

  /** Begins to fetch a partition from an offset. */
  feed(topic: string, partition: number, offset: number, where: string): Feed {
    const feed = new Feed(this, topic, partition, offset, where)
    this.feeds.add(feed)
    // others that are opened at the same time go into the same request
    queueMicrotask(() => this.pump())
    return feed
  }

  remove(feed: Feed): void {
    this.feeds.delete(feed)
  }

  /** Sends what can be sent. */
  pump(): void {
    const now = this.cluster.runtime.elapsed()
    const wanted = new Map<Address, Feed[]>()
    let lost = false
    let later = Number.POSITIVE_INFINITY
    for (const feed of this.feeds) {
      if (feed.fetching || !feed.room || (feed.failure && !feed.failure.retriable)) continue
      if (feed.retryAt > now) {
        later = Math.min(later, feed.retryAt)
        continue
      }
      const leader = this.cluster.leader(feed.topic, feed.partition)
      if (!leader) {
        lost = true
        continue
      }
      const some = wanted.get(leader)
      if (some) some.push(feed)
      else wanted.set(leader, [feed])
    }
    if (lost) void this.findLeaders()
    if (later < this.alarm) this.wakeAt(later, now)
    for (const [broker, feeds] of wanted) {
      for (let slot = 0; slot < SLOTS; slot++) {
        const name = `${broker.host}:${broker.port} ${slot}`
        if (this.busy.has(name)) continue
        this.busy.add(name)
        for (const feed of feeds) feed.fetching = true
        void this.fetch(broker, slot, feeds).finally(() => {
          this.busy.delete(name)
          this.pump()
        })
        break
      }
    }
  }

  private async fetch(broker: Address, slot: number, feeds: readonly Feed[]): Promise<void> {
    const topics = [...Map.groupBy(feeds, ({ topic }) => topic)].map(([topic, some]) => ({
      topic,
      partitions: some.map(({ partition, offset }) => ({ partition, offset, maxBytes: PARTITION })),
    }))
    try {
      const answer = await this.cluster.send(broker, `fetch ${slot}`, FETCH, {
        maxWait: MAX_WAIT,
        maxBytes: ANSWER,
        committed: true,
        topics,
      })
      for (const feed of feeds) feed.fetching = false
      if (this.away) this.cluster.logger.info({}, `${this.cluster.name} is read again`)
      this.away = false
      if (answer.error) throw refusal(this.cluster.name, answer.error)
      const stale: Feed[] = []
      for (const { topic, partitions } of answer.topics) {
        for (const fetched of partitions) {
          const feed = feeds.find((one) => one.topic === topic && one.partition === fetched.partition)
          if (!feed || feed.isClosed) continue
          if (fetched.error === 0) feed.fetched(fetched)
          else this.refused(feed, fetched, stale)
          // who has got something goes to the end of the queue
          if (!feed.empty && this.feeds.delete(feed)) this.feeds.add(feed)
        }
      }
      if (stale.length > 0) void this.findLeaders()
    } catch (error) {
      const failure = this.cluster.unreachable(error)
      for (const feed of feeds) {
        feed.fetching = false
        feed.failed(failure, this.cluster.runtime.elapsed())
      }
      if (!this.away && this.feeds.size > 0) this.cluster.logger.warn({}, `${failure.message}; trying again`)
      this.away = true
      void this.findLeaders()
    }
  }

  private refused(feed: Feed, { error }: FetchedPartition, stale: Feed[]): void {
    const where = `${this.cluster.name}: topic '${feed.topic}' partition ${feed.partition}`
    if (error === ERROR.OFFSET_OUT_OF_RANGE) {
      feed.fetching = true
      void this.locate(feed, where).then((failure) => {
        feed.fetching = false
        feed.failed(failure, this.cluster.runtime.elapsed())
        this.pump()
      })
      return
    }
    feed.failed(refusal(where, error), this.cluster.runtime.elapsed())
    stale.push(feed)
  }

  /** What is wrong with a feed's offset, which the refusal does not say; it may be that all is well by now. */
  private async locate({ topic, partition, offset }: Feed, where: string): Promise<MillraceError> {
    try {
      const [low, high] = await Promise.all(
        [EARLIEST, LATEST].map((time) => this.cluster.offsets(topic, [partition], time, { committed: false })),
      )
      if (offset < low![0]! || offset > high![0]!) return outOfRange(where, offset, low![0]!, high![0]!)
      return refusal(where, ERROR.OFFSET_OUT_OF_RANGE)
    } catch (error) {
      return this.cluster.unreachable(error)
    }
  }

  /** Looks again at feeds that failed, when they are due. */
  private wakeAt(time: number, now: number): void {
    this.alarm = time
    void this.cluster.runtime.sleep(Math.max(1, time - now)).then(() => {
      if (this.alarm === time) this.alarm = Number.POSITIVE_INFINITY
      this.pump()
    })
  }

  private async findLeaders(): Promise<void> {
    if (this.refreshing || this.feeds.size === 0) return
    this.refreshing = true
    const topics = [...new Set([...this.feeds].map(({ topic }) => topic))]
    try {
      await this.cluster.refresh(topics)
      // right after a broker's end nobody leads its partitions
      if ([...this.feeds].some(({ topic, partition }) => !this.cluster.leader(topic, partition)))
        throw refusal(this.cluster.name, ERROR.LEADER_NOT_AVAILABLE)
    } catch (error) {
      const failure =
        error instanceof MillraceError
          ? error
          : new MillraceError('SOURCE_FAILED', messageOf(error), { retriable: true })
      for (const feed of this.feeds) {
        if (!this.cluster.leader(feed.topic, feed.partition)) feed.failed(failure, this.cluster.runtime.elapsed())
      }
    }
    this.refreshing = false
    this.pump()
  }
}

/** A position that the partition does not have. */
export function outOfRange(where: string, next: number, low: number, high: number): MillraceError {
  if (next < low) {
    return new MillraceError(
      'SOURCE_CHANGED',
      `${where}: the records from ${next} to ${low - 1} have not been read, and are gone: the topic's retention has removed them, or the topic was made anew. Reading on would lose them in silence: begin anew with another data directory or group, or give the source another name, and raise the topic's retention`,
    )
  }
  return new MillraceError(
    'SOURCE_CHANGED',
    `${where}: it was read up to ${next}, but ends at ${high}: the topic was made anew, or lost records. Reading on would skip what comes before ${next}: begin anew with another data directory or group, or give the source another name`,
  )
}
