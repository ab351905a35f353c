import { type FileHandle, open } from 'node:fs/promises'
import { MillraceError } from '../core/errors.ts'
import { type Batch, batchAt, findBatch, HEADER_BYTES, sizeOfBatch } from './log-batch.ts'
import { listSegments, segmentPath } from './log-segment.ts'

const CHUNK = 1_048_576

/** A place between two batches. */
export interface Place {
  readonly segment: number
  readonly at: number
  /** Of the batch that stands, or will stand, there. */
  readonly offset: number
}

/**
 * Reads a partition batch by batch, from one segment to the next, and checks each. It may stand at the head and be
 * asked again when there is more.
 */
export class BatchScanner {
  readonly #folder: string
  #segment: number
  #offset: number
  #at: number
  #handle: FileHandle | undefined
  #buffer: Buffer = Buffer.alloc(0)
  #cursor = 0
  #filled = 0
  #torn = false

  constructor(folder: string, place: Place) {
    this.#folder = folder
    this.#segment = place.segment
    this.#offset = place.offset
    this.#at = place.at
  }

  get place(): Place {
    return { segment: this.#segment, at: this.#at, offset: this.#offset }
  }

  /** Whether the last `next` found bytes at the head that are no whole batch: one on its way, or one cut by a crash. */
  get torn(): boolean {
    return this.#torn
  }

  /**
   * The next batch, or undefined at the head.
   *
   * @throws MillraceError LOG_DAMAGED when a batch fails its checksum and others follow; SOURCE_CHANGED when retention
   * has dropped what comes next
   */
  async next(): Promise<Batch | undefined> {
    for (let suspect = false; ; ) {
      const size = await this.#available()
      const batch = size > 0 ? batchAt(this.#buffer, this.#cursor) : undefined
      if (batch !== undefined) {
        if (batch.base !== this.#offset) throw this.#damaged()
        this.#torn = false
        this.#cursor += size
        this.#at += size
        this.#offset += batch.count
        return batch
      }
      const rest = (await this.#size()) - this.#at
      const segments = await listSegments(this.#folder)
      const isLast = !segments.some((base) => base > this.#segment)
      // A whole batch stands behind: what was seen here may have been on its way then, but now it must be whole.
      if (rest > 0 && (!isLast || (await this.#batchFollows(rest)))) {
        if (suspect) throw this.#damaged()
        suspect = true
        this.#forget()
        continue
      }
      if (!isLast) {
        // What was seen of this segment may be older than the list: look again before leaving it.
        if ((await this.#size()) === this.#at + rest) await this.#follow(segments)
        continue
      }
      this.#torn = rest > 0
      this.#forget()
      return undefined
    }
  }

  /** Goes on after bytes that its owner has just written here. */
  skip(bytes: number, records: number): void {
    this.#at += bytes
    this.#offset += records
    this.#forget()
  }

  /** Goes on in the segment that begins at the head. */
  async roll(): Promise<void> {
    await this.close()
    this.#segment = this.#offset
    this.#at = 0
  }

  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    this.#forget()
    await handle?.close()
  }

  async #follow(segments: readonly number[]): Promise<void> {
    if (segments.includes(this.#offset) && this.#offset !== this.#segment) return this.roll()
    throw new MillraceError(
      'SOURCE_CHANGED',
      `log ${this.#folder}: retention has dropped record ${this.#offset}, which is to be read next; ` +
        'read faster, keep more, or start anew from what is left',
    )
  }

  /** The size of the batch at the cursor once all of it is in the buffer, 0 when it is not there or none starts there. */
  async #available(): Promise<number> {
    if (!(await this.#need(HEADER_BYTES))) return 0
    const size = sizeOfBatch(this.#buffer, this.#cursor)
    return size !== undefined && (await this.#need(size)) ? size : 0
  }

  async #need(bytes: number): Promise<boolean> {
    if (this.#filled - this.#cursor >= bytes) return true
    if (bytes > CHUNK && this.#at + bytes > (await this.#size())) return false
    const handle = await this.#open()
    if (handle === undefined) return false
    if (this.#buffer.length - this.#cursor < bytes || this.#buffer.length - this.#filled < CHUNK / 8) {
      const buffer = Buffer.allocUnsafeSlow(Math.max(CHUNK, bytes))
      this.#filled = this.#buffer.copy(buffer, 0, this.#cursor, this.#filled)
      this.#buffer = buffer
      this.#cursor = 0
    }
    while (this.#filled - this.#cursor < bytes) {
      const from = this.#at + this.#filled - this.#cursor
      const { bytesRead } = await handle.read(this.#buffer, this.#filled, this.#buffer.length - this.#filled, from)
      if (bytesRead === 0) return false
      this.#filled += bytesRead
    }
    return true
  }

  async #batchFollows(rest: number): Promise<boolean> {
    const buffer = Buffer.allocUnsafeSlow(rest)
    const read = await (await this.#open())?.read(buffer, 0, rest, this.#at)
    return read !== undefined && findBatch(buffer, 1, read.bytesRead) !== -1
  }

  /** Undefined when there is no such segment: not yet, or no longer. */
  async #open(): Promise<FileHandle | undefined> {
    this.#handle ??= await open(segmentPath(this.#folder, this.#segment), 'r').catch((error) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    return this.#handle
  }

  async #size(): Promise<number> {
    return (await (await this.#open())?.stat())?.size ?? 0
  }

  /** Bytes past the place may be cut off and written anew: they are read again. */
  #forget(): void {
    this.#filled = this.#cursor
  }

  #damaged(): MillraceError {
    return new MillraceError(
      'LOG_DAMAGED',
      `log ${segmentPath(this.#folder, this.#segment)}: the batch of record ${this.#offset}, at byte ${this.#at}, ` +
        'is not what belongs there; put the file back from a copy',
    )
  }
}
