import { isAscii, isUtf8 } from 'node:buffer'
import { crc32 } from 'node:zlib'
import { MillraceError } from '../core/errors.ts'
import type { Reader, ReadFrom } from '../core/source.ts'
import { CsvRowEnd, csvFields } from './file-csv.ts'
import { type ByteInput, changed } from './file-input.ts'
import { FileRecord, KEPT_BYTES, Unreadable } from './file-record.ts'

const CHUNK = 1_048_576
const LEAST_ROOM = 131_072
const NEWLINE = 10
const SPACE = 32

export interface FileReaderOptions {
  /** The file, for messages. */
  readonly path: string
  /** Of CSV; absent for JSON lines. */
  readonly delimiter: string | undefined
  /** Of CSV that is not read from its header row. */
  readonly columns?: readonly string[]
  readonly encoding: 'utf-8' | 'windows-1252'
  /** Bytes. */
  readonly maxRecord: number
  /** Whether a last line without its line end counts when the input ends. */
  readonly takesUnended: boolean
  /** The byte that the input stands at. */
  readonly position: number
  /** The record before was read without its line end, so that one must follow, or nothing. */
  readonly afterUnended?: boolean
}

/** Cuts bytes into records: a line each, or a row of CSV. Reads large pieces and gives what lies whole in one. */
export class FileReader implements Reader {
  readonly #input: ByteInput
  readonly #options: FileReaderOptions
  readonly #rowEnd: CsvRowEnd | undefined
  readonly #decoder: InstanceType<typeof TextDecoder> | undefined
  #columns: readonly string[] | undefined
  #buffer: Buffer = Buffer.alloc(0)
  #filled = 0
  #cursor = 0
  /** The position of the buffer's first byte. */
  #base: number
  /** Whole lines lie from the cursor to here. */
  #wholeEnd = 0
  #textStart = 0
  /** The whole lines as text when every byte is ASCII: one decoding a piece instead of one a line. */
  #text: string | undefined
  #valid = true
  #overlong: { readonly position: number; readonly piece: Buffer } | undefined
  #ready: FileRecord[] = []
  #atBeginning: boolean
  #expectsBreak: boolean
  #ended = false

  constructor(input: ByteInput, options: FileReaderOptions) {
    this.#input = input
    this.#options = options
    this.#rowEnd = options.delimiter === undefined ? undefined : new CsvRowEnd(options.delimiter)
    this.#decoder = options.encoding === 'utf-8' ? undefined : new TextDecoder(options.encoding)
    this.#columns = options.columns
    this.#base = options.position
    this.#atBeginning = options.columns === undefined && options.position === 0
    this.#expectsBreak = options.afterUnended ?? false
  }

  /** The names of the header row, once it was read. */
  get columns(): readonly string[] | undefined {
    return this.#columns
  }

  async read(limit: { readonly records: number; readonly bytes: number }): Promise<readonly FileRecord[] | null> {
    for (;;) {
      const records = this.#ready.length > 0 ? this.#ready.splice(0) : this.#cut(limit)
      if (records.length > 0) return records
      if (this.#ended) return null
      if (!(await this.#fill())) return []
    }
  }

  async more(signal: AbortSignal): Promise<void> {
    if (this.#ended || this.#ready.length > 0 || this.#cursor < this.#wholeEnd) return
    await this.#input.more(signal)
  }

  async lag(): Promise<number | undefined> {
    if (this.#ended && this.#cursor >= this.#wholeEnd) return 0
    const left = await this.#input.left()
    return left === undefined ? undefined : left + this.#filled - this.#cursor
  }

  close(): Promise<void> {
    return this.#input.close()
  }

  #cut(limit: { readonly records: number; readonly bytes: number }): FileRecord[] {
    const records: FileRecord[] = []
    const from = this.#cursor
    while (records.length < limit.records && this.#cursor < this.#wholeEnd) {
      if (records.length > 0 && this.#cursor - from >= limit.bytes) break
      const start = this.#cursor
      const end = this.#rowEnd ? this.#endOfRow(this.#rowEnd, start) : this.#endOfLine(start)
      if (end === -1) break
      this.#cursor = Math.min(end + 1, this.#wholeEnd)
      this.#rowEnd?.reset(this.#cursor)
      if (this.#isBlank(start, end)) continue
      const value = this.#valueOf(start, end)
      if (value === undefined) continue
      const kept = end - start > this.#options.maxRecord ? Math.min(end, start + KEPT_BYTES) : end
      records.push(new FileRecord(this.#base + start, this.#base + this.#cursor, value, this.#buffer, start, kept))
    }
    return records
  }

  #endOfLine(start: number): number {
    if (this.#text !== undefined) {
      const at = this.#text.indexOf('\n', start - this.#textStart)
      return at === -1 ? this.#wholeEnd : at + this.#textStart
    }
    const at = this.#buffer.indexOf(NEWLINE, start)
    return at === -1 || at > this.#wholeEnd ? this.#wholeEnd : at
  }

  #endOfRow(rowEnd: CsvRowEnd, start: number): number {
    const bound = start + this.#options.maxRecord
    const end = rowEnd.find(this.#buffer, Math.min(this.#filled, bound + 1))
    if (end !== -1) return end
    // A quote that does not close may not take the rest of the file: beyond the bound, any line break ends the row.
    const next = bound < this.#filled ? this.#buffer.subarray(bound, this.#filled).indexOf(NEWLINE) : -1
    if (next !== -1) return bound + next
    return this.#ended ? this.#filled : -1
  }

  #isBlank(start: number, end: number): boolean {
    for (let at = start; at < end; at++) if (this.#buffer[at]! > SPACE) return false
    return true
  }

  /** What `decode` takes; undefined for the header row. */
  #valueOf(start: number, end: number): unknown {
    if (end - start > this.#options.maxRecord) return new Unreadable(`is longer than ${this.#options.maxRecord} bytes`)
    const text = this.#textOf(start, end)
    if (this.#rowEnd === undefined) return text ?? new Unreadable('is not UTF-8')
    if (this.#columns !== undefined) {
      return text === undefined
        ? new Unreadable('is not UTF-8')
        : { columns: this.#columns, delimiter: this.#options.delimiter!, text }
    }
    this.#columns = this.#headerOf(text)
    return undefined
  }

  #textOf(start: number, end: number): string | undefined {
    if (this.#text !== undefined) return this.#text.slice(start - this.#textStart, end - this.#textStart)
    if (this.#decoder) return this.#decoder.decode(this.#buffer.subarray(start, end))
    if (!this.#valid && !isUtf8(this.#buffer.subarray(start, end))) return undefined
    return this.#buffer.toString('utf8', start, end)
  }

  #headerOf(text: string | undefined): string[] {
    const columns = text === undefined ? [] : csvFields(text, this.#options.delimiter!)
    const wrong = columns.findIndex((name, i) => name === '' || name === '__proto__' || columns.indexOf(name) !== i)
    if (wrong === -1 && columns.length > 0) return columns
    throw new MillraceError(
      'SOURCE_FAILED',
      `${this.#options.path}: the first row must name each column once, ` +
        `${columns.length === 0 ? 'and is not UTF-8: say `encoding`' : `and column ${wrong + 1} has no name or that of another`}`,
    )
  }

  /** Reads on. False when there is nothing for now. */
  async #fill(): Promise<boolean> {
    this.#makeRoom()
    const read = await this.#input.read(this.#buffer, this.#filled)
    if (read < 0) return false
    if (read === 0) {
      this.#finish()
      return true
    }
    if (this.#expectsBreak) this.#checkBreak()
    const from = this.#filled
    this.#filled += read
    if (this.#atBeginning) {
      if (this.#filled < 3) return true
      this.#begin()
    }
    if (this.#overlong) this.#passOverlong()
    else this.#takeWhole(Math.max(from, this.#cursor))
    return true
  }

  #makeRoom(): void {
    const partial = this.#filled - this.#cursor
    if (this.#overlong) {
      this.#base += this.#filled
      this.#filled = 0
    } else if (partial > this.#options.maxRecord) {
      const piece = Buffer.from(this.#buffer.subarray(this.#cursor, this.#cursor + KEPT_BYTES))
      this.#overlong = { position: this.#base + this.#cursor, piece }
      this.#base += this.#filled
      this.#buffer = Buffer.allocUnsafeSlow(CHUNK)
      this.#filled = 0
    } else if (this.#buffer.length - this.#filled < LEAST_ROOM) {
      const buffer = Buffer.allocUnsafeSlow(partial + Math.max(CHUNK, partial))
      this.#buffer.copy(buffer, 0, this.#cursor, this.#filled)
      this.#rowEnd?.moved(this.#cursor)
      this.#base += this.#cursor
      this.#buffer = buffer
      this.#filled = partial
    } else {
      return
    }
    this.#cursor = 0
    this.#wholeEnd = 0
  }

  /** Leaves out the mark that some systems put before UTF-8. */
  #begin(): void {
    this.#atBeginning = false
    if (this.#buffer[0] === 0xef && this.#buffer[1] === 0xbb && this.#buffer[2] === 0xbf) this.#cursor = 3
    this.#rowEnd?.reset(this.#cursor)
  }

  #takeWhole(from: number): void {
    if (this.#rowEnd) {
      this.#wholeEnd = this.#filled
      this.#valid = false
      return
    }
    const last = this.#buffer.subarray(from, this.#filled).lastIndexOf(NEWLINE)
    if (last !== -1) this.#setWhole(from + last + 1)
  }

  #setWhole(end: number): void {
    this.#wholeEnd = end
    this.#textStart = this.#cursor
    const whole = this.#buffer.subarray(this.#cursor, end)
    const ascii = isAscii(whole)
    this.#text = ascii ? whole.toString('latin1') : undefined
    this.#valid = ascii || isUtf8(whole)
  }

  #passOverlong(): void {
    const end = this.#buffer.subarray(0, this.#filled).indexOf(NEWLINE)
    if (end === -1) return
    this.#giveOverlong(this.#base + end + 1)
    this.#cursor = end + 1
    this.#rowEnd?.reset(this.#cursor)
    this.#takeWhole(this.#cursor)
  }

  #giveOverlong(next: number): void {
    const { position, piece } = this.#overlong!
    this.#overlong = undefined
    const value = new Unreadable(`is longer than ${this.#options.maxRecord} bytes`)
    this.#ready.push(new FileRecord(position, next, value, piece, 0, piece.length))
  }

  #finish(): void {
    this.#ended = true
    if (!this.#options.takesUnended) this.#filled = this.#wholeEnd = this.#cursor
    else if (this.#overlong) this.#giveOverlong(this.#base)
    else if (this.#filled > this.#cursor) this.#setWhole(this.#filled)
  }

  #checkBreak(): void {
    this.#expectsBreak = false
    const first = this.#buffer[this.#filled]
    if (first === NEWLINE || first === 13) return
    throw changed(this.#options.path, 'its last line was read without its line end, and has grown since')
  }
}

/**
 * Brings an input to where a reader goes on, and checks that what stands before is what was read. True when that record
 * had no line end.
 *
 * @throws MillraceError SOURCE_CHANGED
 */
export async function comeTo(input: ByteInput, { next, last }: ReadFrom, path: string): Promise<boolean> {
  const scratch = Buffer.allocUnsafeSlow(KEPT_BYTES)
  const shorter = (found: number) => changed(path, `it has ${found} bytes, and ${next} had been read`)
  const left = input.skip && (await input.left())
  if (left !== undefined && left < next) throw shorter(left)
  const start = last?.position ?? next
  let at = 0
  if (input.skip) {
    input.skip(start)
    at = start
  }
  let ofAll = 0
  let ofKept = 0
  let ending: number | undefined
  while (at < next) {
    const read = await input.read(scratch.subarray(0, Math.min(scratch.length, (at < start ? start : next) - at)), 0)
    if (read <= 0) throw shorter(at)
    if (at >= start) {
      const piece = scratch.subarray(0, read)
      const kept = KEPT_BYTES - (at - start)
      if (kept > 0) ofKept = crc32(piece.subarray(0, kept), ofKept)
      const isLast = at + read === next
      ending = piece[read - 1]
      ofAll = crc32(isLast && ending === NEWLINE ? piece.subarray(0, -1) : piece, ofAll)
    }
    at += read
  }
  if (last === undefined || ofAll === last.checksum) return last !== undefined && ending !== NEWLINE
  if (next - start > KEPT_BYTES && ofKept === last.checksum) return ending !== NEWLINE
  throw changed(path, `bytes ${start} to ${next} are not what was read there`)
}
