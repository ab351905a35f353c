import { crc32 } from 'node:zlib'
import { MillraceError } from '../core/errors.ts'
import type { Reader, ReadFrom } from '../core/source.ts'
import { EARLIEST, LATEST } from './apis.ts'
import type { Cluster } from './cluster.ts'
import { type Feed, outOfRange } from './fetcher.ts'
import type { KafkaRecord } from './records.ts'

/** Where a partition that was never read begins: with what there is, with what comes, at a time, or at its own offset. */
export type KafkaFrom = 'earliest' | 'latest' | Date | Readonly<Record<number, number>>

/**
 * Opens a partition at its stored position, or at its beginning.
 *
 * @param end read up to this offset, and end there
 * @throws MillraceError SOURCE_CHANGED when the partition does not go back to the position, ends before it, or has another
 * record there
 */
export async function openPartition(
  cluster: Cluster,
  topic: string,
  partition: number,
  { start, stored, end }: { start: KafkaFrom; stored: ReadFrom | undefined; end: number | undefined },
): Promise<Reader> {
  const where = `${cluster.name}: topic '${topic}'`
  const [low, high] = await Promise.all(
    [EARLIEST, LATEST].map(async (time) => (await cluster.offsets(topic, [partition], time, { committed: false }))[0]!),
  )
  if (!stored) {
    const next = await beginning(cluster, topic, partition, start, { low: low!, high: high!, where })
    return new PartitionReader(cluster.fetcher.feed(topic, partition, next, where), next, end)
  }
  const { next, last } = stored
  if (next < low! || next > high!) throw outOfRange(`${where} partition ${partition}`, next, low!, high!)
  const checked = last !== undefined && last.position >= low! ? last : undefined
  const reader = new PartitionReader(
    cluster.fetcher.feed(topic, partition, checked?.position ?? next, where),
    next,
    end,
  )
  try {
    if (checked) await reader.check(checked, `${where} partition ${partition}`)
    return reader
  } catch (error) {
    await reader.close()
    throw error
  }
}

async function beginning(
  cluster: Cluster,
  topic: string,
  partition: number,
  start: KafkaFrom,
  { low, high, where }: { low: number; high: number; where: string },
): Promise<number> {
  if (start === 'earliest') return low
  const latest = async () => (await cluster.offsets(topic, [partition], LATEST))[0]!
  if (start === 'latest') return latest()
  if (start instanceof Date) {
    const [at] = await cluster.offsets(topic, [partition], start.getTime(), { committed: false })
    return at! < 0 ? latest() : at!
  }
  const at = start[partition] ?? low
  if (at >= low && at <= high) return at
  throw new MillraceError(
    'BAD_OPTION',
    `${where} partition ${partition}: from says offset ${at}, but its offsets go from ${low} to ${high}`,
  )
}

class PartitionReader implements Reader {
  private readonly feed: Feed
  private readonly end: number | undefined
  /** The place behind what was given. */
  private next: number
  private held: KafkaRecord[] = []

  constructor(feed: Feed, next: number, end: number | undefined) {
    this.feed = feed
    this.next = next
    this.end = end
  }

  /** Compares the last record that was read with what stands there now; compaction may have taken it away. */
  async check(last: NonNullable<ReadFrom['last']>, where: string): Promise<void> {
    for (;;) {
      const [record] = this.feed.take(last.position, { records: 1, bytes: 1 })
      if (record) {
        if (record.position >= this.next) this.held = [record]
        if (record.position !== last.position || crc32(record.bytes()) === last.checksum) return
        throw new MillraceError(
          'SOURCE_CHANGED',
          `${where}: the record at offset ${last.position} is not the one that was read there: the topic was made anew, or is another. Use the same one, another data directory or group, or give the source another name`,
        )
      }
      if (this.feed.failure) throw this.feed.failure
      if (this.feed.isClosed || (this.feed.atHead && this.feed.empty)) return
      await this.feed.changed()
    }
  }

  /** Waits where it cannot know whether it is at the head, for as long as the brokers are away, too. */
  async read(limit: { readonly records: number; readonly bytes: number }): Promise<readonly KafkaRecord[] | null> {
    const { feed, end } = this
    for (;;) {
      if (end !== undefined && this.next >= end) return null
      const records = this.take(limit)
      if (records.length > 0) return records
      if (!feed.empty) continue
      if (feed.isClosed) return []
      if (end !== undefined && feed.offset >= end) return null
      if (feed.failure && !feed.failure.retriable) throw feed.failure
      if (feed.atHead && end === undefined) return []
      await feed.changed()
    }
  }

  async more(signal: AbortSignal): Promise<void> {
    const { feed } = this
    const { promise: stopped, resolve: stop } = Promise.withResolvers<void>()
    const stopping = () => stop()
    signal.addEventListener('abort', stopping)
    while (!signal.aborted && !feed.isClosed && feed.empty && !feed.failure && this.held.length === 0)
      await Promise.race([feed.changed(), stopped])
    signal.removeEventListener('abort', stopping)
  }

  async lag(): Promise<number | undefined> {
    const high = this.end ?? this.feed.highWatermark
    if (high === undefined) return undefined
    return Math.max(
      0,
      high - (this.feed.empty && this.held.length === 0 ? Math.max(this.next, this.feed.offset) : this.next),
    )
  }

  async close(): Promise<void> {
    this.feed.close()
  }

  private take(limit: { readonly records: number; readonly bytes: number }): KafkaRecord[] {
    const { end } = this
    const records = this.held.length > 0 ? this.held : this.feed.take(this.next, limit)
    this.held = []
    if (end !== undefined && records.length > 0 && records.at(-1)!.position >= end) {
      records.splice(records.findIndex(({ position }) => position >= end))
      this.next = end
    }
    if (records.length > 0) this.next = Math.max(this.next, records.at(-1)!.next)
    return records
  }
}
