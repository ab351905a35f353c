import type { RawRecord } from '../core/source.ts'

/** Most bytes that are kept of a record that is longer than `maxRecord`. */
export const KEPT_BYTES = 65_536

/** A record that cannot be decoded, and why. */
export class Unreadable {
  readonly reason: string

  constructor(reason: string) {
    this.reason = reason
  }
}

/** A line or row of a file. It keeps the piece of the file that it lies in. */
export class FileRecord implements RawRecord {
  readonly position: number
  readonly next: number
  readonly value: unknown
  readonly #piece: Buffer
  readonly #start: number
  readonly #end: number

  constructor(position: number, next: number, value: unknown, piece: Buffer, start: number, end: number) {
    this.position = position
    this.next = next
    this.value = value
    this.#piece = piece
    this.#start = start
    this.#end = end
  }

  /** Without its line end; the first 64 KB of one that is longer than `maxRecord`. */
  bytes(): Uint8Array {
    return this.#piece.subarray(this.#start, this.#end)
  }
}
