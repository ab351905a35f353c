/** What a store keeps of a task beside bytes: rows of JSON text, each of which proves that it is what was written. */
import { crc32 } from 'node:zlib'
import type { StagedBatch, StoredBatch, StoredDeadLetter } from '../core/store.ts'

/** Blobs and bodies are kept in pieces of at most so many bytes. */
export const PIECE_BYTES = 1_048_576

/** What the store was born with. */
export interface Identity {
  readonly format: number
  readonly id: string
  /** 32 bytes, in hexadecimal. */
  readonly secret: string
}

/** How many rows there are, and the exclusive or of their checksums. */
export type Tally = [count: number, sum: number]

/** Where bytes are kept: in `pieces` rows from `first` on. */
export interface Content {
  readonly first: number
  readonly pieces: number
  readonly size: number
  readonly sum: number
}

export interface TaskRow {
  id: number
  crc: number
  name: string
  fence: number
  epoch: number
  deaths: number
  facts: string | undefined
  receipts: Record<string, string>
  blobs: Tally
  batches: Tally
  letters: Tally
}

export interface BlobRow {
  readonly id: number
  crc: number
  slot: string
  readonly format: string
  /** Its place in the slot. */
  readonly order: number
  readonly content: Content
}

export interface BatchRow extends Omit<StagedBatch, 'body'> {
  readonly id: number
  crc: number
  /** Its place in the lane. */
  readonly order: number
  attempts: number
  group?: string
  readonly content: Content
}

/** The checksum of a row: over its table, its key and what it says. */
export function rowSum(table: string, key: number | string, text: string, more: string | Uint8Array = ''): number {
  return crc32(more, crc32(text, crc32(`${table} ${key} `)))
}

/** Takes a row's checksum in, or out. */
export function tally(into: Tally, change: 1 | -1, sum: number): void {
  into[0] += change
  into[1] = (into[1] ^ sum) >>> 0
}

export function taskText(task: TaskRow): string {
  const { name, fence, epoch, deaths, facts, receipts, blobs, batches, letters } = task
  return JSON.stringify({ name, fence, epoch, deaths, facts: facts?.length ?? -1, receipts, blobs, batches, letters })
}

export function blobText({ slot, format, order, content }: BlobRow): string {
  return JSON.stringify({ slot, format, order, content })
}

export function batchText(batch: BatchRow): string {
  const { order, attempts, group, name, sink, head, rows, stagedAt, oldest, newest, arrived, content } = batch
  const times = [stagedAt, oldest, newest, arrived].map(storable)
  return JSON.stringify({ order, attempts, group, name, sink, head, rows, times, content })
}

export function letterText(letter: Omit<StoredDeadLetter, 'id'>): string {
  const { task, source, partition, position, at, where, code, reason, key, time, bytes } = letter
  const size = bytes.byteLength
  const when = time === undefined ? undefined : storable(time)
  return JSON.stringify({
    task,
    source,
    partition,
    position: storable(position),
    at,
    where,
    code,
    reason,
    key,
    time: when,
    size,
  })
}

/** The row that `blobText` made. */
export function blobRow(id: number, crc: number, text: string): BlobRow {
  return { ...(JSON.parse(text) as Omit<BlobRow, 'id' | 'crc'>), id, crc }
}

/** The row that `batchText` made. */
export function batchRow(id: number, crc: number, text: string): BatchRow {
  const { times, ...said } = JSON.parse(text)
  const [stagedAt, oldest, newest, arrived] = times.map(Number) as [number, number, number, number]
  return { id, crc, ...said, stagedAt, oldest, newest, arrived }
}

/** The dead letter of which `letterText` made the text. */
export function letterOf(id: number, text: string, bytes: Uint8Array): StoredDeadLetter {
  const { size: _, position, time, ...said } = JSON.parse(text)
  const when = time === undefined ? {} : { time: Number(time) }
  return { id, ...said, position: Number(position), ...when, bytes }
}

/** A batch as it is listed. */
export function storedBatch({ id: _id, crc: _crc, order: _order, content, ...batch }: BatchRow): StoredBatch {
  return { ...batch, size: content.size }
}

/** Infinity and NaN are not JSON. */
function storable(value: number): number | string {
  return Number.isFinite(value) ? value : String(value)
}
