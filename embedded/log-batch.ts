import { isAscii, isUtf8 } from 'node:buffer'
import { crc32 } from 'node:zlib'
import type { RawRecord } from '../core/source.ts'

/*
 * A batch, little-endian:
 *   u32 magic, u32 size of all, u32 CRC-32 of all that follows, u32 count,
 *   f64 offset of the first record, f64 time of the append, f64 largest timestamp, u32 length of the names,
 *   the names: JSON of [producer, batch], or nothing,
 *   a row of 20 bytes a record: u32 key length + 1, u32 value length + 1 (0: null), u32 headers length, f64 timestamp,
 *   and the keys, values and headers (JSON) themselves, in that order, record by record.
 */
const MAGIC = 0x31424c4d
const ROW = 20
const CHECKED_FROM = 12
export const HEADER_BYTES = 44

/** One record to append. */
export interface LogEntry {
  /** Decides the partition. `null`: any. */
  readonly key?: string | null
  /** `null` is a tombstone: the key has no value any more. */
  readonly value: string | Uint8Array | null
  readonly headers?: Readonly<Record<string, string>>
  /** Epoch milliseconds. @default the time of the append */
  readonly timestamp?: number
}

/** Who appends what: a batch that its producer has appended already is not appended again. */
export interface BatchNames {
  readonly producer: string
  readonly batch: string
}

/** A batch as it lies in a buffer. */
export interface Batch {
  readonly buffer: Buffer
  readonly start: number
  readonly size: number
  readonly count: number
  /** Offset of its first record. */
  readonly base: number
  readonly appendedAt: number
  readonly maxTimestamp: number
  readonly names: BatchNames | undefined
}

/** The bytes of a batch. */
export function encodeBatch(
  entries: readonly LogEntry[],
  { base, now, names }: { base: number; now: number; names?: BatchNames | undefined },
): Buffer {
  const name = names === undefined ? '' : JSON.stringify([names.producer, names.batch])
  const nameBytes = Buffer.byteLength(name)
  const headers = entries.map((entry) => (entry.headers === undefined ? '' : JSON.stringify(entry.headers)))
  let size = HEADER_BYTES + nameBytes + ROW * entries.length
  for (const [i, { key, value }] of entries.entries()) {
    size += (key == null ? 0 : Buffer.byteLength(key)) + lengthOf(value) + Buffer.byteLength(headers[i]!)
  }
  const buffer = Buffer.allocUnsafeSlow(size)
  buffer.write(name, HEADER_BYTES)
  let row = HEADER_BYTES + nameBytes
  let at = row + ROW * entries.length
  let maxTimestamp = Number.NEGATIVE_INFINITY
  for (const [i, { key, value, timestamp = now }] of entries.entries()) {
    const keyBytes = key == null ? 0 : buffer.write(key, at)
    at += keyBytes
    const valueBytes = put(buffer, value, at)
    at += valueBytes
    const headerBytes = buffer.write(headers[i]!, at)
    at += headerBytes
    buffer.writeUInt32LE(key == null ? 0 : keyBytes + 1, row)
    buffer.writeUInt32LE(value === null ? 0 : valueBytes + 1, row + 4)
    buffer.writeUInt32LE(headerBytes, row + 8)
    buffer.writeDoubleLE(timestamp, row + 12)
    row += ROW
    if (timestamp > maxTimestamp) maxTimestamp = timestamp
  }
  buffer.writeUInt32LE(MAGIC, 0)
  buffer.writeUInt32LE(size, 4)
  buffer.writeUInt32LE(entries.length, 12)
  buffer.writeDoubleLE(base, 16)
  buffer.writeDoubleLE(now, 24)
  buffer.writeDoubleLE(maxTimestamp, 32)
  buffer.writeUInt32LE(nameBytes, 40)
  buffer.writeUInt32LE(crc32(buffer.subarray(CHECKED_FROM)), 8)
  return buffer
}

/** The size that the batch at `start` says it has; undefined when no batch starts there. Needs `HEADER_BYTES` bytes. */
export function sizeOfBatch(buffer: Buffer, start: number): number | undefined {
  if (buffer.readUInt32LE(start) !== MAGIC) return undefined
  const size = buffer.readUInt32LE(start + 4)
  return size >= HEADER_BYTES ? size : undefined
}

/** The batch at `start`, whose bytes are all there; undefined when it fails its checksum. */
export function batchAt(buffer: Buffer, start: number): Batch | undefined {
  const size = sizeOfBatch(buffer, start)
  if (size === undefined) return undefined
  if (crc32(buffer.subarray(start + CHECKED_FROM, start + size)) !== buffer.readUInt32LE(start + 8)) return undefined
  const nameBytes = buffer.readUInt32LE(start + 40)
  const [producer, batch] =
    nameBytes === 0 ? [] : JSON.parse(buffer.toString('utf8', start + HEADER_BYTES, start + HEADER_BYTES + nameBytes))
  return {
    buffer,
    start,
    size,
    count: buffer.readUInt32LE(start + 12),
    base: buffer.readDoubleLE(start + 16),
    appendedAt: buffer.readDoubleLE(start + 24),
    maxTimestamp: buffer.readDoubleLE(start + 32),
    names: producer === undefined ? undefined : { producer, batch },
  }
}

/** Where the first whole batch that starts in `[from, end)` is, or -1. Finds what follows a damaged one. */
export function findBatch(buffer: Buffer, from: number, end: number): number {
  const magic = Buffer.alloc(4)
  magic.writeUInt32LE(MAGIC)
  for (
    let at = buffer.indexOf(magic, from);
    at !== -1 && at + HEADER_BYTES <= end;
    at = buffer.indexOf(magic, at + 1)
  ) {
    const size = sizeOfBatch(buffer, at)
    if (size !== undefined && at + size <= end && batchAt(buffer, at) !== undefined) return at
  }
  return -1
}

/** Reads the records of a batch one after the other. They share its bytes, and decode what is asked of them. */
export class BatchCursor {
  readonly #batch: Batch
  readonly #payload: Payload
  #row: number
  #at: number
  #index = 0

  constructor(batch: Batch) {
    this.#batch = batch
    this.#row = batch.start + HEADER_BYTES + batch.buffer.readUInt32LE(batch.start + 40)
    this.#at = this.#row + ROW * batch.count
    const end = batch.start + batch.size
    const ascii = isAscii(batch.buffer.subarray(this.#at, end))
    this.#payload = {
      buffer: batch.buffer,
      text: ascii ? batch.buffer.toString('latin1', this.#at, end) : undefined,
      start: this.#at,
    }
  }

  /** The offset of the record that `next` will give. */
  get offset(): number {
    return this.#batch.base + this.#index
  }

  next(): LogRecord | undefined {
    if (this.#index === this.#batch.count) return undefined
    const { buffer } = this.#batch
    const key = buffer.readUInt32LE(this.#row)
    const value = buffer.readUInt32LE(this.#row + 4)
    const headers = buffer.readUInt32LE(this.#row + 8)
    const timestamp = buffer.readDoubleLE(this.#row + 12)
    const record = new LogRecord(this.offset, timestamp, this.#payload, this.#at, key, value, headers)
    this.#row += ROW
    this.#at = record.end
    this.#index++
    return record
  }
}

interface Payload {
  readonly buffer: Buffer
  /** All of it as text when every byte is ASCII: one decoding a batch instead of one a record. */
  readonly text: string | undefined
  readonly start: number
}

/** A record of the log. `value` is its text, its bytes where they are not UTF-8, or null. */
export class LogRecord implements RawRecord {
  readonly position: number
  readonly timestamp: number
  readonly #payload: Payload
  readonly #start: number
  readonly #keyLength: number
  readonly #valueLength: number
  readonly #headersLength: number

  constructor(
    position: number,
    timestamp: number,
    payload: Payload,
    start: number,
    keyLength: number,
    valueLength: number,
    headersLength: number,
  ) {
    this.position = position
    this.timestamp = timestamp
    this.#payload = payload
    this.#start = start
    this.#keyLength = keyLength
    this.#valueLength = valueLength
    this.#headersLength = headersLength
  }

  get next(): number {
    return this.position + 1
  }

  get key(): string | null {
    if (this.#keyLength === 0) return null
    return this.#text(this.#start, this.#valueStart)
  }

  get value(): string | Uint8Array | null {
    if (this.#valueLength === 0) return null
    if (this.#payload.text === undefined && !isUtf8(this.bytes())) return this.bytes()
    return this.#text(this.#valueStart, this.#headersStart)
  }

  get headers(): Readonly<Record<string, string>> {
    return this.#headersLength === 0 ? {} : JSON.parse(this.#text(this.#headersStart, this.end))
  }

  /** The value's bytes; none for a tombstone. */
  bytes(): Uint8Array {
    return this.#payload.buffer.subarray(this.#valueStart, this.#headersStart)
  }

  /** Where the next record begins. */
  get end(): number {
    return this.#headersStart + this.#headersLength
  }

  /** The bytes that it takes, for the bound of a read. */
  get size(): number {
    return this.end - this.#start
  }

  get #valueStart(): number {
    return this.#start + Math.max(0, this.#keyLength - 1)
  }

  get #headersStart(): number {
    return this.#valueStart + Math.max(0, this.#valueLength - 1)
  }

  #text(start: number, end: number): string {
    const { buffer, text, start: origin } = this.#payload
    return text === undefined ? buffer.toString('utf8', start, end) : text.slice(start - origin, end - origin)
  }
}

function lengthOf(value: string | Uint8Array | null): number {
  if (value === null) return 0
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length
}

function put(buffer: Buffer, value: string | Uint8Array | null, at: number): number {
  if (value === null) return 0
  if (typeof value === 'string') return buffer.write(value, at)
  buffer.set(value, at)
  return value.length
}
