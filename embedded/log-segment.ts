import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'

/** Where a batch starts in a segment, and the largest times up to there. */
export interface IndexEntry {
  /** Of the first record at `at`. */
  readonly offset: number
  readonly at: number
  /** Largest timestamp of the records before `at`; -Infinity at the beginning. */
  readonly maxTimestamp: number
  /** When the batch before `at` was appended. */
  readonly appendedAt: number
}

const FIELDS = 4
const NAME = /^(\d{16})\.log$/

/** The path of the segment whose first record has this offset. */
export function segmentPath(folder: string, base: number): string {
  return join(folder, `${name(base)}.log`)
}

/** The first offsets of a partition's segments, in order. */
export async function listSegments(folder: string): Promise<number[]> {
  const names = await readdir(folder)
  return names
    .flatMap((file) => NAME.exec(file)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b)
}

/** Makes an empty segment, and makes sure that it stays. */
export async function createSegment(folder: string, base: number): Promise<void> {
  await (await open(segmentPath(folder, base), 'a')).close()
  await syncFolder(folder)
}

export async function removeSegment(folder: string, base: number): Promise<void> {
  await rm(segmentPath(folder, base), { force: true })
  await rm(join(folder, `${name(base)}.index`), { force: true })
  await rm(join(folder, `${name(base)}.producers`), { force: true })
}

/** Drops full segments whose records are all before an offset. */
export async function dropSegments(folder: string, before: number): Promise<void> {
  const segments = await listSegments(folder)
  for (const [i, base] of segments.slice(0, -1).entries()) {
    if (segments[i + 1]! > before) break
    await removeSegment(folder, base)
  }
}

/** Keeps a full segment's sparse index. Its last entry is the segment's end. */
export async function writeIndex(folder: string, base: number, entries: readonly IndexEntry[]): Promise<void> {
  const numbers = new Float64Array(entries.length * FIELDS)
  for (const [i, { offset, at, maxTimestamp, appendedAt }] of entries.entries()) {
    numbers.set([offset, at, maxTimestamp, appendedAt], i * FIELDS)
  }
  const body = Buffer.from(numbers.buffer)
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32LE(crc32(body))
  await replaceFile(join(folder, `${name(base)}.index`), Buffer.concat([body, checksum]))
}

/** A full segment's index; empty where there is none, so that the segment is read through. */
export async function readIndex(folder: string, base: number): Promise<IndexEntry[]> {
  const bytes = await readFile(join(folder, `${name(base)}.index`)).catch(() => undefined)
  if (bytes === undefined || bytes.length % (FIELDS * 8) !== 4) return []
  const body = bytes.subarray(0, -4)
  if (crc32(body) !== bytes.readUInt32LE(body.length)) return []
  return Array.from({ length: body.length / (FIELDS * 8) }, (_, i) => {
    const field = (at: number) => body.readDoubleLE((i * FIELDS + at) * 8)
    return { offset: field(0), at: field(1), maxTimestamp: field(2), appendedAt: field(3) }
  })
}

/** The names that each producer appended last before this segment, so that older segments can go. */
export type Producers = Map<string, string[]>

export async function writeProducers(folder: string, base: number, producers: Producers): Promise<void> {
  await replaceFile(join(folder, `${name(base)}.producers`), JSON.stringify([...producers]))
}

export async function readProducers(folder: string, base: number): Promise<Producers> {
  const text = await readFile(join(folder, `${name(base)}.producers`), 'utf8').catch((error) => {
    if (error.code === 'ENOENT') return '[]'
    throw error
  })
  return new Map(JSON.parse(text))
}

/** Puts a file in place whole, or not at all. */
export async function replaceFile(path: string, data: string | Uint8Array): Promise<void> {
  const draft = `${path}.draft`
  await writeFile(draft, data, { flush: true })
  await rename(draft, path)
}

/** Makes the names in a folder durable, where the system can. */
export async function syncFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const handle = await open(folder, 'r').catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

function name(base: number): string {
  return String(base).padStart(16, '0')
}
