import { crc32 } from 'node:zlib'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import type { Reader, ReadFrom } from '../core/source.ts'
import { BatchCursor, type LogRecord } from './log-batch.ts'
import { BatchScanner, type Place } from './log-scanner.ts'
import { listSegments, readIndex } from './log-segment.ts'
import { Watch } from './log-watch.ts'

/** The marks of a partition: `low` is the first offset that can be read, `high` the one that comes next. */
export interface Marks {
  readonly low: number
  readonly high: number
}

/** Reads one partition, also while other processes append to it. */
export class PartitionReader implements Reader {
  readonly #folder: string
  readonly #scanner: BatchScanner
  readonly #marks: MarkFinder
  readonly #watch: Watch
  readonly #end: number
  #offset: number
  #cursor: BatchCursor | undefined
  #busy: Promise<unknown> = Promise.resolve()

  private constructor(
    folder: string,
    place: Place,
    runtime: Runtime,
    { offset, end }: { offset: number; end: number },
  ) {
    this.#folder = folder
    this.#scanner = new BatchScanner(folder, place)
    this.#marks = new MarkFinder(folder)
    this.#watch = new Watch(folder, runtime)
    this.#offset = offset
    this.#end = end
  }

  /**
   * @param from an offset, or where an earlier reader stopped
   * @param options.end the offset to end at; without it, the reader waits for more
   * @throws MillraceError SOURCE_CHANGED when the place is not between the marks or its record is another
   */
  static async open(
    folder: string,
    from: number | ReadFrom,
    runtime: Runtime,
    { end = Number.POSITIVE_INFINITY }: { end?: number } = {},
  ): Promise<PartitionReader> {
    const offset = typeof from === 'number' ? from : from.next
    const { low, high } = await findMarks(folder)
    if (offset < low || offset > high) {
      const what = offset < low ? 'retention has dropped records that were not read' : 'the log is shorter than it was'
      throw new MillraceError(
        'SOURCE_CHANGED',
        `log ${folder}: the position is ${offset}, but the log holds ${low} to ${high}: ${what}; ` +
          'put the log back, or start anew with another data directory',
      )
    }
    if (typeof from === 'object') await verify(folder, from, low, runtime)
    const place = await locate(folder, offset)
    return new PartitionReader(folder, place, runtime, { offset, end })
  }

  /** Reads at most so many records; an empty list at the head, null at the end that was given. */
  read(limit: { readonly records: number; readonly bytes: number }): Promise<readonly LogRecord[] | null> {
    const records = this.#busy.then(() => this.#read(limit))
    this.#busy = records.catch(() => undefined)
    return records
  }

  more(signal: AbortSignal): Promise<void> {
    return this.#watch.until(async () => {
      if (this.#cursor !== undefined || this.#offset >= this.#end) return true
      return (await this.#marks.high()) > this.#offset
    }, signal)
  }

  async lag(): Promise<number> {
    return Math.max(0, Math.min(this.#end, await this.#marks.high()) - this.#offset)
  }

  async close(): Promise<void> {
    this.#watch.close()
    await this.#busy
    await this.#scanner.close()
    await this.#marks.close()
  }

  async #read(limit: { readonly records: number; readonly bytes: number }): Promise<readonly LogRecord[] | null> {
    const records: LogRecord[] = []
    let bytes = 0
    while (
      records.length < limit.records &&
      (bytes < limit.bytes || records.length === 0) &&
      this.#offset < this.#end
    ) {
      this.#cursor ??= await this.#next(records.length > 0)
      if (this.#cursor === undefined) break
      const record = this.#cursor.next()
      if (record === undefined) {
        this.#cursor = undefined
      } else if (record.position >= this.#offset) {
        this.#offset = record.position + 1
        bytes += record.size
        records.push(record)
      }
    }
    return records.length === 0 && this.#offset >= this.#end ? null : records
  }

  /** What fails after good records is said by the next read, so that these are given first. */
  async #next(haveSome: boolean): Promise<BatchCursor | undefined> {
    try {
      const batch = await this.#scanner.next()
      return batch && new BatchCursor(batch)
    } catch (error) {
      if (haveSome) return undefined
      throw readError(this.#folder, error)
    }
  }
}

/** The marks of a partition as they are now. */
export async function findMarks(folder: string): Promise<Marks> {
  const finder = new MarkFinder(folder)
  try {
    const low = (await listSegments(folder))[0] ?? 0
    return { low, high: await finder.high() }
  } finally {
    await finder.close()
  }
}

/** The first offset whose record has a timestamp of `time` or later, else the high mark. */
export async function offsetAt(folder: string, time: number): Promise<number> {
  const segments = await listSegments(folder)
  for (const [i, segment] of segments.entries()) {
    const index = await readIndex(folder, segment)
    const last = index.at(-1)
    if (i < segments.length - 1 && last !== undefined && last.maxTimestamp < time) continue
    const entry = index.findLast(({ maxTimestamp }) => maxTimestamp < time)
    const place = { segment, at: entry?.at ?? 0, offset: entry?.offset ?? segment }
    const scanner = new BatchScanner(folder, place)
    try {
      for (let batch = await scanner.next(); batch !== undefined; batch = await scanner.next()) {
        if (batch.maxTimestamp < time) continue
        const cursor = new BatchCursor(batch)
        for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
          if (record.timestamp >= time) return record.position
        }
      }
      return scanner.place.offset
    } catch (error) {
      throw readError(folder, error)
    } finally {
      await scanner.close()
    }
  }
  return (await findMarks(folder)).high
}

/** Follows the high mark of a partition: each call looks only at what is new. */
class MarkFinder {
  readonly #folder: string
  #scanner: BatchScanner | undefined
  #busy: Promise<unknown> = Promise.resolve()

  constructor(folder: string) {
    this.#folder = folder
  }

  high(): Promise<number> {
    const high = this.#busy.then(() => this.#high())
    this.#busy = high.catch(() => undefined)
    return high
  }

  async close(): Promise<void> {
    await this.#busy
    await this.#scanner?.close()
  }

  async #high(): Promise<number> {
    const segment = (await listSegments(this.#folder)).at(-1)
    if (segment === undefined) return 0
    if (this.#scanner !== undefined && segment > this.#scanner.place.segment) {
      await this.#scanner.close()
      this.#scanner = undefined
    }
    this.#scanner ??= new BatchScanner(this.#folder, { segment, at: 0, offset: segment })
    try {
      while ((await this.#scanner.next()) !== undefined);
    } catch (error) {
      // Reading will come to the damaged place and say so; up to there, the log is as long as this.
      if (!(error instanceof MillraceError)) throw readError(this.#folder, error)
    }
    return this.#scanner.place.offset
  }
}

async function locate(folder: string, offset: number): Promise<Place> {
  const segment = (await listSegments(folder)).findLast((base) => base <= offset) ?? 0
  const index = await readIndex(folder, segment)
  let low = 0
  for (let high = index.length; low < high; ) {
    const middle = (low + high) >>> 1
    if (index[middle]!.offset <= offset) low = middle + 1
    else high = middle
  }
  const entry = index[low - 1]
  return { segment, at: entry?.at ?? 0, offset: entry?.offset ?? segment }
}

async function verify(folder: string, { last }: ReadFrom, low: number, runtime: Runtime): Promise<void> {
  if (last === undefined || last.position < low) return
  const reader = await PartitionReader.open(folder, last.position, runtime)
  try {
    const record = (await reader.read({ records: 1, bytes: 1 }))?.[0]
    if (record?.position === last.position && crc32(record.bytes()) === last.checksum) return
  } finally {
    await reader.close()
  }
  throw new MillraceError(
    'SOURCE_CHANGED',
    `log ${folder}: record ${last.position} is not the one that was read there; the log was made anew or is another: ` +
      'put the former one back, or start anew with another data directory',
  )
}

function readError(folder: string, error: unknown): MillraceError {
  if (error instanceof MillraceError) return error
  const code = (error as NodeJS.ErrnoException).code ?? 'an error'
  return new MillraceError(
    'SOURCE_FAILED',
    `log ${folder}: it cannot be read (${code}); see to the disk and start again`,
    {
      cause: error,
      retriable: true,
    },
  )
}
