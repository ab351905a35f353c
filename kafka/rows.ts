import { murmur2, partitionOfHash } from '../embedded/log-partitioner.ts'
import { CODECS, type Compression, compress, crc32c } from './compression.ts'
import { BATCH, SEQUENCE_HEADER, WRITER_HEADER } from './records.ts'

const TAB = 9
const NEWLINE = 10
const BACKSLASH = 92
/** Numbers that are kept of a row: where its sequence, key, headers and value begin, and where it ends. */
const WIDTH = 5

/** A row as it is staged: sequence, key and headers as JSON or nothing, value or nothing for a tombstone; a line. */
export function rowText(
  sequence: number,
  key: string | null,
  headers: Readonly<Record<string, string>> | undefined,
  value: string | null,
): string {
  const head = headers === undefined ? '' : JSON.stringify(headers)
  return `${sequence}\t${key === null ? '' : JSON.stringify(key)}\t${head}\t${value ?? ''}\n`
}

/** The rows of a staged batch, by the partitions that they go to. */
export class Rows {
  /** Of each partition, the places of its rows in the batch, in their order. */
  readonly byPartition: ReadonlyMap<number, readonly number[]>
  private readonly body: Buffer
  private readonly marks: Uint32Array

  /** @param keyless the partition of rows without a key */
  constructor(body: Uint8Array, rows: number, partitions: number, keyless: number) {
    this.body = Buffer.from(body.buffer, body.byteOffset, body.length)
    this.marks = new Uint32Array(rows * WIDTH)
    const places = new Map<number, number[]>()
    const { marks } = this
    let at = 0
    for (let row = 0; row < rows; row++) {
      const mark = row * WIDTH
      marks[mark] = at
      while (body[at] !== TAB) at++
      const keyAt = (marks[mark + 1] = ++at)
      while (body[at] !== TAB) at++
      const keyEnd = at
      marks[mark + 2] = ++at
      while (body[at] !== TAB) at++
      marks[mark + 3] = ++at
      at = this.body.indexOf(NEWLINE, at) + 1
      marks[mark + 4] = at
      const partition = keyEnd === keyAt ? keyless : this.partitionOf(keyAt, keyEnd, partitions)
      const some = places.get(partition)
      if (some) some.push(row)
      else places.set(partition, [row])
    }
    this.byPartition = places
  }

  sequence(row: number): number {
    const { body, marks } = this
    let value = 0
    for (let at = marks[row * WIDTH]!; body[at] !== TAB; at++) value = value * 10 + body[at]! - 48
    return value
  }

  /**
   * A record batch of some rows of one partition, as many as fit, but one at least.
   *
   * @param producer its name, for the headers, and its number for the brokers, with the sequence of the first record
   */
  batch(
    places: readonly number[],
    from: number,
    { name, id, epoch, sequence, time, most, codec }: BatchOptions,
  ): { records: Buffer; count: number } {
    const { body, marks } = this
    const common = commonHeaders(name)
    let room = BATCH.records + 32
    let count = 0
    for (let i = from; i < places.length; i++, count++) {
      const mark = places[i]! * WIDTH
      const size =
        marks[mark + 4]! - marks[mark]! + common.length + 48 + (marks[mark + 3]! - marks[mark + 2]! > 1 ? 256 : 0)
      if (count > 0 && room + size > most) break
      room += size
    }
    let out = Buffer.allocUnsafe(room)
    let at: number = BATCH.records
    for (let n = 0; n < count; n++) {
      const mark = places[from + n]! * WIDTH
      const sequenceAt = marks[mark]!
      const keyAt = marks[mark + 1]!
      const headersAt = marks[mark + 2]!
      const valueAt = marks[mark + 3]!
      const sequenceLength = keyAt - 1 - sequenceAt
      const valueLength = marks[mark + 4]! - 1 - valueAt
      const own = headersAt + 1 < valueAt ? ownHeaders(body, headersAt, valueAt - 1) : undefined
      const key = keyAt + 1 < headersAt ? keyOf(body, keyAt, headersAt - 1) : undefined
      const keyLength = key === undefined ? 0 : key.to - key.from
      const headers = common.length + 1 + sequenceLength + (own?.bytes.length ?? 0)
      const length =
        2 +
        varintSize(n) +
        (key ? varintSize(keyLength) + keyLength : 1) +
        (valueLength > 0 ? varintSize(valueLength) + valueLength : 1) +
        1 +
        headers
      if (at + length + 10 > out.length) {
        const larger = Buffer.allocUnsafe(out.length * 2 + length)
        out.copy(larger, 0, 0, at)
        out = larger
      }
      at = writeVarint(out, at, length)
      out[at++] = 0
      out[at++] = 0 // the batch's time
      at = writeVarint(out, at, n)
      if (key) {
        at = writeVarint(out, at, keyLength)
        for (let i = key.from; i < key.to; i++) out[at++] = key.in[i]!
      } else out[at++] = 1
      if (valueLength > 0) {
        at = writeVarint(out, at, valueLength)
        body.copy(out, at, valueAt, valueAt + valueLength)
        at += valueLength
      } else out[at++] = 1
      out[at++] = (2 + (own?.count ?? 0)) << 1
      for (let i = 0; i < common.length; i++) out[at++] = common[i]!
      out[at++] = sequenceLength << 1
      for (let i = 0; i < sequenceLength; i++) out[at++] = body[sequenceAt + i]!
      if (own) at += own.bytes.copy(out, at)
    }
    const number = CODECS[codec]
    if (number !== CODECS.none) {
      const packed = compress(number, out.subarray(BATCH.records, at))
      if (BATCH.records + packed.length > out.length) out = Buffer.concat([out.subarray(0, BATCH.records), packed])
      else packed.copy(out, BATCH.records)
      at = BATCH.records + packed.length
    }
    const records = out.subarray(0, at)
    records.fill(0, 0, BATCH.length)
    records.writeInt32BE(at - 12, BATCH.length)
    records.writeInt32BE(-1, 12)
    records[BATCH.magic] = 2
    records.writeInt16BE(number, BATCH.attributes)
    records.writeInt32BE(count - 1, BATCH.lastDelta)
    records.writeBigInt64BE(BigInt(time), BATCH.firstTime)
    records.writeBigInt64BE(BigInt(time), BATCH.maxTime)
    records.writeBigInt64BE(id, BATCH.producer)
    records.writeInt16BE(epoch, BATCH.epoch)
    records.writeInt32BE(sequence, BATCH.sequence)
    records.writeInt32BE(count, BATCH.count)
    records.writeUInt32BE(crc32c(records.subarray(BATCH.attributes)), BATCH.crc)
    return { records, count }
  }

  private partitionOf(keyAt: number, keyEnd: number, partitions: number): number {
    if (partitions === 1) return 0
    const key = keyOf(this.body, keyAt, keyEnd)
    return partitionOfHash(murmur2(key.in, key.from, key.to), partitions)
  }
}

export interface BatchOptions {
  readonly name: string
  readonly id: bigint
  readonly epoch: number
  readonly sequence: number
  readonly time: number
  /** Bytes of a batch before it is compressed. */
  readonly most: number
  readonly codec: Compression
}

/** The bytes of a key that is written as JSON: what is between the quotes, unless something is escaped. */
function keyOf(body: Buffer, from: number, to: number): { in: Uint8Array; from: number; to: number } {
  for (let at = from; at < to; at++) {
    if (body[at] !== BACKSLASH) continue
    const text = Buffer.from(JSON.parse(body.toString('utf8', from, to)) as string)
    return { in: text, from: 0, to: text.length }
  }
  return { in: body, from: from + 1, to: to - 1 }
}

let common: { name: string; bytes: Uint8Array } | undefined

/** What is the same in the headers of all records of a producer: all of its name's, and the name of the sequence's. */
function commonHeaders(name: string): Uint8Array {
  if (common?.name !== name)
    common = { name, bytes: Buffer.concat([header(WRITER_HEADER, name), sized(SEQUENCE_HEADER)]) }
  return common.bytes
}

function ownHeaders(body: Buffer, from: number, to: number): { bytes: Buffer; count: number } {
  const headers = Object.entries(JSON.parse(body.toString('utf8', from, to)) as Record<string, string>)
  return { bytes: Buffer.concat(headers.map(([name, value]) => header(name, value))), count: headers.length }
}

const header = (name: string, value: string): Buffer => Buffer.concat([sized(name), sized(value)])

function sized(text: string): Buffer {
  const bytes = Buffer.from(text)
  const size = Buffer.alloc(5)
  return Buffer.concat([size.subarray(0, writeVarint(size, 0, bytes.length)), bytes])
}

/** Writes a number that is not negative, zig-zag, and gives the place behind it. */
function writeVarint(out: Uint8Array, at: number, value: number): number {
  let rest = value * 2
  while (rest > 0x7f) {
    out[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  out[at++] = rest
  return at
}

function varintSize(value: number): number {
  if (value < 0x40) return 1
  if (value < 0x2000) return 2
  if (value < 0x10_0000) return 3
  return value < 0x800_0000 ? 4 : 5
}
