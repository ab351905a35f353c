import { crc32 } from 'node:zlib'
import type { Asking } from './redis-asking.ts'
import { fieldsOf, pieceSize, redisDamaged } from './redis-layout.ts'
import { type Content, PIECE_BYTES } from './rows.ts'

/** Bytes with what messages call them. */
export interface Wanted {
  readonly content: Content
  readonly what: string
}

/** Bytes that one command asks for, and commands that are asked at once. */
const READ_BYTES = 8 * PIECE_BYTES
const READS = 4

interface Piece {
  readonly index: number
  readonly at: number
  readonly length: number
  readonly field: string
}

/**
 * Reads contents, each into a buffer of its own.
 *
 * @param key of the task's pieces
 * @throws MillraceError STATE_DAMAGED, STATE_FAILED
 */
export async function readContents(
  { told }: Asking,
  place: string,
  key: string,
  wanted: readonly Wanted[],
): Promise<Uint8Array<ArrayBuffer>[]> {
  const contents = wanted.map(({ content }) => new Uint8Array(content.size))
  const reads: Piece[][] = [[]]
  let size = 0
  for (const [index, { content }] of wanted.entries()) {
    for (const [n, field] of fieldsOf(content).entries()) {
      const length = pieceSize(content, n)
      if (size + length > READ_BYTES && size > 0) {
        reads.push([])
        size = 0
      }
      size += length
      reads.at(-1)!.push({ index, at: n * PIECE_BYTES, length, field })
    }
  }
  const fetch = async (some: readonly Piece[]) => {
    const found = await told((client) => client.hmgetBuffer(key, ...some.map(({ field }) => field)))
    for (const [n, { index, at, length, field }] of some.entries()) {
      const bytes = found[n]
      if (bytes?.length !== length)
        throw redisDamaged(place, `${wanted[index]!.what}: its piece ${field} is not what was written`)
      contents[index]!.set(bytes, at)
    }
  }
  const waiting = reads.filter((some) => some.length > 0)
  const worker = async () => {
    for (let some = waiting.shift(); some; some = waiting.shift()) await fetch(some)
  }
  await Promise.all(Array.from({ length: READS }, worker))
  for (const [index, { content, what }] of wanted.entries())
    if (crc32(contents[index]!) !== content.sum) throw redisDamaged(place, `${what} fails its checksum`)
  return contents
}
