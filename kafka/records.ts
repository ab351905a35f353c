import { MillraceError } from '../core/errors.ts'
import type { RawRecord } from '../core/source.ts'
import type { FetchedPartition } from './apis.ts'
import { crc32c, decompress } from './compression.ts'

/**
 * Where the parts of a record batch are (https://kafka.apache.org/documentation/#recordbatch): base offset, length,
 * leader epoch, magic, CRC-32C of what is from the attributes on, …
 */
export const BATCH = {
  length: 8,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastDelta: 23,
  firstTime: 27,
  maxTime: 35,
  producer: 43,
  epoch: 51,
  sequence: 53,
  count: 57,
  records: 61,
} as const

const COMPRESSION = 0b111
const LOG_APPEND_TIME = 0b1000
const TRANSACTIONAL = 0b1_0000
const CONTROL = 0b10_0000

/** One record: a view into its batch, of which text is made when it is asked for. */
export class KafkaRecord implements RawRecord {
  readonly position: number
  next: number
  readonly timestamp: number
  private readonly data: Buffer
  private readonly keyAt: number
  private readonly keyEnd: number
  private readonly valueAt: number
  private readonly valueEnd: number
  private readonly headersAt: number
  private written: RawRecord['writer'] | null = null

  constructor(
    data: Buffer,
    position: number,
    timestamp: number,
    keyAt: number,
    keyEnd: number,
    valueAt: number,
    valueEnd: number,
    headersAt: number,
  ) {
    this.data = data
    this.position = position
    this.next = position + 1
    this.timestamp = timestamp
    this.keyAt = keyAt
    this.keyEnd = keyEnd
    this.valueAt = valueAt
    this.valueEnd = valueEnd
    this.headersAt = headersAt
  }

  get size(): number {
    return this.valueEnd - this.valueAt
  }

  /** Its bytes as they are; `null` for a tombstone. */
  get value(): Uint8Array | null {
    return this.valueEnd < 0 ? null : this.data.subarray(this.valueAt, this.valueEnd)
  }

  /** Its bytes read as UTF-8; `null` for a tombstone. */
  text(): string | null {
    return this.valueEnd < 0 ? null : this.data.toString('utf8', this.valueAt, this.valueEnd)
  }

  bytes(): Uint8Array {
    return this.valueEnd < 0 ? this.data.subarray(0, 0) : this.data.subarray(this.valueAt, this.valueEnd)
  }

  get key(): string | null {
    return this.keyEnd < 0 ? null : this.data.toString('utf8', this.keyAt, this.keyEnd)
  }

  /** Who wrote it and which of its records it is, where Millrace wrote it: the first two headers say it. */
  get writer(): RawRecord['writer'] {
    if (this.written === null) this.written = writerOf(this.data, this.headersAt)
    return this.written
  }

  get headers(): Readonly<Record<string, string>> {
    const headers: Record<string, string> = {}
    for (const [name, value] of this.headerBytes()) headers[name] = value.toString('utf8')
    return headers
  }

  /** The headers in their order, with their bytes. */
  headerBytes(): [name: string, value: Buffer][] {
    const from = new Varints(this.data, this.headersAt)
    const headers: [string, Buffer][] = []
    for (let left = from.next(); left > 0; left--) {
      const name = from.bytes()?.toString('utf8') ?? ''
      headers.push([name, from.bytes() ?? Buffer.alloc(0)])
    }
    return headers
  }
}

/** The headers that say who sent a record, and which of its records it is: numbers that only grow. */
export const WRITER_HEADER = 'mr-from'
export const SEQUENCE_HEADER = 'mr-seq'

const WRITER_BYTES = Buffer.from(WRITER_HEADER)
const SEQUENCE_BYTES = Buffer.from(SEQUENCE_HEADER)
/** The last name that was read: most records of a batch are of one writer. */
let seen = { bytes: Buffer.alloc(0), name: '' }

function writerOf(data: Buffer, at: number): RawRecord['writer'] {
  const from = new Varints(data, at)
  if (from.next() < 2 || !from.is(WRITER_BYTES)) return undefined
  const length = from.next()
  if (length !== seen.bytes.length || seen.bytes.compare(data, from.at, from.at + length) !== 0) {
    const bytes = Buffer.from(data.subarray(from.at, from.at + length))
    seen = { bytes, name: bytes.toString() }
  }
  from.at += length
  if (!from.is(SEQUENCE_BYTES)) return undefined
  let sequence = 0
  for (let left = from.next(); left > 0; left--) sequence = sequence * 10 + data[from.at++]! - 48
  return { name: seen.name, sequence }
}

/** Fetched batches of one partition, of which records are made when they are read. */
export class Chunk {
  /** The offset behind its last whole batch. */
  readonly next: number
  readonly bytes: number
  private readonly data: Buffer
  private readonly aborted: FetchedPartition['aborted'][number][]
  private readonly dropped = new Set<bigint>()
  private at = 0
  private batch:
    | {
        data: Buffer
        from: Varints
        base: number
        time: number
        append: number | undefined
        left: number
        next: number
      }
    | undefined

  /** @param records as they were fetched; the last batch may be cut off, and is fetched again */
  constructor(records: Buffer, aborted: FetchedPartition['aborted']) {
    let end = 0
    let next = -1
    while (end + BATCH.records <= records.length) {
      const size = 12 + records.readInt32BE(end + BATCH.length)
      if (end + size > records.length) break
      next = offsetAt(records, end) + records.readInt32BE(end + BATCH.lastDelta) + 1
      end += size
    }
    this.next = next
    this.bytes = end
    // the answer that it is a part of would stay in memory for it
    this.data = Buffer.from(records.subarray(0, end))
    this.aborted = [...aborted].sort((a, b) => a.first - b.first)
  }

  get done(): boolean {
    return this.batch === undefined && this.at >= this.data.length
  }

  /**
   * Adds its next records to `into`, but those below `from`, up to so many and about so many bytes.
   *
   * @returns the bytes that were added
   * @throws MillraceError SOURCE_FAILED when a batch is damaged
   */
  read(into: KafkaRecord[], from: number, limit: { records: number; bytes: number }, where: string): number {
    let bytes = 0
    while (into.length < limit.records && bytes < limit.bytes) {
      const batch = (this.batch ??= this.open(where))
      if (!batch) break
      if (batch.left === 0) {
        this.batch = undefined
        continue
      }
      const record = this.record(batch)
      batch.left--
      if (batch.left === 0) record.next = batch.next
      if (record.position < from) continue
      into.push(record)
      bytes += Math.max(1, record.size)
    }
    return bytes
  }

  /** As `read`, into a list of its own. */
  records(from: number, limit: { records: number; bytes: number }, where: string): KafkaRecord[] {
    const records: KafkaRecord[] = []
    this.read(records, from, limit, where)
    return records
  }

  /** The next batch that holds records of interest. */
  private open(where: string) {
    const { data, dropped, aborted } = this
    while (this.at < data.length) {
      const at = this.at
      const end = at + 12 + data.readInt32BE(at + BATCH.length)
      this.at = end
      const magic = data[at + BATCH.magic]!
      if (magic !== 2) {
        throw new MillraceError(
          'SOURCE_FAILED',
          `${where}: it holds records of the message format ${magic}, which is older than Kafka 0.11; copy the topic with a newer client first`,
        )
      }
      if (crc32c(data.subarray(at + BATCH.attributes, end)) !== data.readUInt32BE(at + BATCH.crc)) {
        throw new MillraceError(
          'SOURCE_FAILED',
          `${where}: the batch at offset ${offsetAt(data, at)} fails its checksum`,
          {
            retriable: true,
          },
        )
      }
      const base = offsetAt(data, at)
      const next = base + data.readInt32BE(at + BATCH.lastDelta) + 1
      const attributes = data.readInt16BE(at + BATCH.attributes)
      if (attributes & TRANSACTIONAL) {
        const producer = data.readBigInt64BE(at + BATCH.producer)
        while (aborted.length > 0 && aborted[0]!.first < next) dropped.add(aborted.shift()!.producer)
        if (attributes & CONTROL) dropped.delete(producer)
        else if (dropped.has(producer)) continue
      }
      if (attributes & CONTROL) continue
      const count = data.readInt32BE(at + BATCH.count)
      if (count === 0) continue
      const codec = attributes & COMPRESSION
      const records =
        codec === 0 ? data.subarray(at + BATCH.records, end) : decompress(codec, data.subarray(at + BATCH.records, end))
      return {
        data: records,
        from: new Varints(records, 0),
        base,
        time: Number(data.readBigInt64BE(at + BATCH.firstTime)),
        append: attributes & LOG_APPEND_TIME ? Number(data.readBigInt64BE(at + BATCH.maxTime)) : undefined,
        left: count,
        next,
      }
    }
    return undefined
  }

  private record({ data, from, base, time, append }: NonNullable<Chunk['batch']>): KafkaRecord {
    const end = from.next() + from.at
    from.at++ // attributes, of which none is in use
    const timestamp = append ?? time + from.next()
    if (append !== undefined) from.next()
    const position = base + from.next()
    const key = from.next()
    const keyAt = from.at
    if (key > 0) from.at += key
    const value = from.next()
    const valueAt = from.at
    if (value > 0) from.at += value
    const headersAt = from.at
    from.at = end
    return new KafkaRecord(
      data,
      position,
      timestamp,
      keyAt,
      key < 0 ? -1 : keyAt + key,
      valueAt,
      value < 0 ? -1 : valueAt + value,
      headersAt,
    )
  }
}

/** Reads zig-zag numbers of one to ten bytes. */
class Varints {
  at: number
  private readonly data: Buffer

  constructor(data: Buffer, at: number) {
    this.data = data
    this.at = at
  }

  next(): number {
    const { data } = this
    const first = data[this.at++]!
    if (first < 0x80) return (first >>> 1) ^ -(first & 1)
    let value = first & 0x7f
    for (let shift = 7; ; shift += 7) {
      const byte = data[this.at++]!
      if (shift < 28) value |= (byte & 0x7f) << shift
      else return this.long(value, shift, byte)
      if (byte < 0x80) return (value >>> 1) ^ -(value & 1)
    }
  }

  /** Whether what comes next are these bytes, which it steps over. */
  is(bytes: Buffer): boolean {
    if (this.next() !== bytes.length) return false
    for (let i = 0; i < bytes.length; i++) if (this.data[this.at++] !== bytes[i]) return false
    return true
  }

  bytes(): Buffer | null {
    const length = this.next()
    if (length < 0) return null
    this.at += length
    return this.data.subarray(this.at - length, this.at)
  }

  /** The rare number of more than 28 bits: a time that is days after its batch's first. */
  private long(low: number, shift: number, first: number): number {
    let value = BigInt(low)
    for (let byte = first, at = BigInt(shift); ; at += 7n) {
      value |= BigInt(byte & 0x7f) << at
      if (byte < 0x80) break
      byte = this.data[this.at++]!
    }
    return Number((value >> 1n) ^ -(value & 1n))
  }
}

const offsetAt = (data: Buffer, at: number): number => data.readInt32BE(at) * 0x1_0000_0000 + data.readUInt32BE(at + 4)
