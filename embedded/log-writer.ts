import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import { type Batch, type BatchNames, encodeBatch, type LogEntry } from './log-batch.ts'
import { FileLock } from './log-lock.ts'
import { BatchScanner } from './log-scanner.ts'
import {
  createSegment,
  type IndexEntry,
  listSegments,
  type Producers,
  readIndex,
  readProducers,
  removeSegment,
  segmentPath,
  syncFolder,
  writeIndex,
  writeProducers,
} from './log-segment.ts'

const INDEX_EVERY = 65_536
const NAMES_A_PRODUCER = 32
const LARGEST_BATCH = 536_870_912

export interface WriterOptions {
  /** Bytes after which a new segment is begun. */
  readonly segmentBytes: number
  /** Milliseconds that a segment is kept after its last append. */
  readonly keepFor: number
  /** Bytes of full segments that are kept. */
  readonly keepBytes: number
  /** Whether an append is on disk when it resolves. */
  readonly sync: boolean
}

/** Where an append went. */
export interface Appended {
  /** The offset of its first record; undefined when the batch had been appended before. */
  readonly base: number | undefined
}

/**
 * Appends to one partition. Writers of other processes may do so, too: each append holds the partition's lock, looks at
 * what others have appended, and cuts off what a crash left of an append that was never answered for.
 */
export class PartitionWriter {
  readonly #folder: string
  readonly #runtime: Runtime
  readonly #options: WriterOptions
  readonly #lock: FileLock
  #scanner: BatchScanner | undefined
  #producers: Producers = new Map()
  #index: IndexEntry[] = []
  #maxTimestamp = Number.NEGATIVE_INFINITY
  #firstAppend: number | undefined
  #lastAppend = 0
  #file: { readonly segment: number; readonly handle: FileHandle } | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(folder: string, runtime: Runtime, options: WriterOptions) {
    this.#folder = folder
    this.#runtime = runtime
    this.#options = options
    this.#lock = new FileLock(join(folder, 'lock'), runtime)
  }

  /**
   * Appends the records as one batch: all of them or none, also in a crash.
   *
   * @throws MillraceError DISK_FULL, with nothing appended; LOG_DAMAGED
   */
  append(entries: readonly LogEntry[], names?: BatchNames): Promise<Appended> {
    const done = this.#last.then(() => this.#lock.hold(() => this.#append(entries, names)))
    this.#last = done.catch(() => undefined)
    return done
  }

  async close(): Promise<void> {
    await this.#last
    await this.#scanner?.close()
    await this.#file?.handle.close()
    this.#lock.close()
  }

  async #append(entries: readonly LogEntry[], names?: BatchNames): Promise<Appended> {
    const scanner = await this.#catchUp()
    if (names !== undefined && this.#producers.get(names.producer)?.includes(names.batch)) return { base: undefined }
    const now = this.#runtime.now()
    if (this.#isFull(now)) await this.#roll(scanner)
    const { at, offset: base } = scanner.place
    const buffer = encodeBatch(entries, { base, now, names })
    if (buffer.length > LARGEST_BATCH) {
      throw new MillraceError('BAD_OPTION', `log ${this.#folder}: one append must be below 512MB; make smaller ones`)
    }
    const handle = await this.#open(scanner.place.segment)
    try {
      await writeAll(handle, buffer, at)
      if (this.#options.sync) await handle.datasync()
    } catch (error) {
      await handle.truncate(at).catch(() => undefined)
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      const message = `log ${this.#folder}: no room on the disk; nothing was appended: make room, and it goes on`
      throw new MillraceError('DISK_FULL', message, { cause: error, retriable: true })
    }
    scanner.skip(buffer.length, entries.length)
    const maxTimestamp = buffer.readDoubleLE(32)
    this.#note(
      { buffer, start: 0, size: buffer.length, count: entries.length, base, appendedAt: now, maxTimestamp, names },
      at,
    )
    return { base }
  }

  /** Takes in what other writers have appended, and cuts off what a crash left unfinished. */
  async #catchUp(): Promise<BatchScanner> {
    for (;;) {
      const scanner = (this.#scanner ??= await this.#start())
      try {
        const { segment, at } = scanner.place
        const batch = await scanner.next()
        if (segment !== scanner.place.segment) this.#newSegment()
        if (batch === undefined) {
          if (scanner.torn) {
            const handle = await this.#open(scanner.place.segment)
            await handle.truncate(scanner.place.at)
            await handle.sync()
          }
          return scanner
        }
        this.#note(batch, segment === scanner.place.segment ? at : 0)
      } catch (error) {
        this.#scanner = undefined
        await scanner.close()
        if (!(error instanceof MillraceError && error.code === 'SOURCE_CHANGED')) throw error
      }
    }
  }

  async #start(): Promise<BatchScanner> {
    const segments = await listSegments(this.#folder)
    const segment = segments.at(-1) ?? 0
    if (segments.length === 0) await createSegment(this.#folder, 0)
    this.#producers = await readProducers(this.#folder, segment)
    this.#newSegment()
    return new BatchScanner(this.#folder, { segment, at: 0, offset: segment })
  }

  #newSegment(): void {
    this.#index = []
    this.#maxTimestamp = Number.NEGATIVE_INFINITY
    this.#firstAppend = undefined
  }

  #note(batch: Batch, at: number): void {
    if (at - (this.#index.at(-1)?.at ?? 0) >= INDEX_EVERY) this.#index.push(this.#entry(batch.base, at))
    this.#firstAppend ??= batch.appendedAt
    this.#lastAppend = batch.appendedAt
    this.#maxTimestamp = Math.max(this.#maxTimestamp, batch.maxTimestamp)
    if (batch.names === undefined) return
    const known = this.#producers.get(batch.names.producer) ?? []
    if (known.push(batch.names.batch) > NAMES_A_PRODUCER) known.shift()
    this.#producers.set(batch.names.producer, known)
  }

  #entry(offset: number, at: number): IndexEntry {
    return { offset, at, maxTimestamp: this.#maxTimestamp, appendedAt: this.#lastAppend }
  }

  #isFull(now: number): boolean {
    if (this.#firstAppend === undefined) return false
    return this.#scanner!.place.at >= this.#options.segmentBytes || now - this.#firstAppend > this.#options.keepFor / 4
  }

  async #roll(scanner: BatchScanner): Promise<void> {
    const { segment, at, offset } = scanner.place
    await writeIndex(this.#folder, segment, [...this.#index, this.#entry(offset, at)])
    await writeProducers(this.#folder, offset, this.#producers)
    await createSegment(this.#folder, offset)
    await scanner.roll()
    this.#newSegment()
    await this.#retain()
  }

  /** Drops whole segments from the old end, never the last one. */
  async #retain(): Promise<void> {
    const { keepFor, keepBytes } = this.#options
    const full = (await listSegments(this.#folder)).slice(0, -1)
    const ends = await Promise.all(full.map(async (base) => (await readIndex(this.#folder, base)).at(-1)))
    let bytes = ends.reduce((sum, end) => sum + (end?.at ?? 0), 0)
    for (const [i, end] of ends.entries()) {
      const old = end !== undefined && this.#runtime.now() - end.appendedAt > keepFor
      if (!old && bytes <= keepBytes) break
      await removeSegment(this.#folder, full[i]!)
      bytes -= end?.at ?? 0
    }
    await syncFolder(this.#folder)
  }

  async #open(segment: number): Promise<FileHandle> {
    if (this.#file?.segment === segment) return this.#file.handle
    await this.#file?.handle.close()
    this.#file = undefined
    const handle = await open(segmentPath(this.#folder, segment), 'r+')
    this.#file = { segment, handle }
    return handle
  }
}

async function writeAll(handle: FileHandle, buffer: Buffer, position: number): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    done += (await handle.write(buffer, done, buffer.length - done, position + done)).bytesWritten
  }
}
