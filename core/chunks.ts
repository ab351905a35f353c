import { closeSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { entryBytes } from './entry.ts'
import { MillraceError } from './errors.ts'

/** A run of entries that is written once, from its beginning to its end, then only read, and freed whole. */
export interface Chunk {
  /** From 1; used again when the chunk has been freed. */
  readonly id: number
  /** Absent when it is in the spill file. */
  bytes: Buffer | undefined
  view: DataView
  length: number
  count: number
  /** Entries that the directory points at. */
  live: number
  oldest: number
  newest: number
  /** Its place in the spill file; -1 when it is not there. */
  place: number
  /** Was read since the hand last came by. */
  touched: boolean
}

export interface ChunksOptions {
  /** Bytes of chunks that stay in memory, where there is a spill file. */
  memory: number
  /** Path of the spill file. It is a cache: emptied when it is opened, worth nothing afterwards. */
  spill?: string | undefined
}

const LARGEST = 262_144
const SMALLEST = 4_096
const PAGE = 4_096
const NOWHERE = new DataView(new ArrayBuffer(0))

/** Where `Chunks.read` found an entry: valid until the next read. */
export interface Cursor {
  bytes: Buffer
  view: DataView
  at: number
}

export type Chunks = ReturnType<typeof createChunks>

/**
 * Entries in chunks of 256 kB outside the JavaScript heap. What memory has no room for is written to a local file, the
 * longest unread first, and read back a page at a time.
 */
export function createChunks({ memory, spill }: ChunksOptions) {
  const byId: (Chunk | undefined)[] = [undefined]
  const freeIds: number[] = []
  const page = Buffer.allocUnsafeSlow(spill === undefined ? 0 : PAGE)
  const pageView = new DataView(page.buffer)
  const cursor: Cursor = { bytes: page, view: pageView, at: 0 }
  const freePlaces: number[] = []
  let file: number | undefined
  let fileEnd = 0
  let held = 0
  let nextSize = SMALLEST
  let hand = 0
  let open = add(Buffer.alloc(0))
  if (spill !== undefined) removeLeftover(spill)

  function add(bytes: Buffer): Chunk {
    const id = freeIds.pop() ?? byId.length
    const chunk: Chunk = {
      id,
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      length: 0,
      count: 0,
      live: 0,
      oldest: Number.POSITIVE_INFINITY,
      newest: Number.NEGATIVE_INFINITY,
      place: -1,
      touched: false,
    }
    byId[id] = chunk
    held += bytes.byteLength
    return chunk
  }

  function openFor(size: number): void {
    if (size <= LARGEST) while (nextSize < size) nextSize *= 2
    open = add(Buffer.allocUnsafeSlow(size > LARGEST ? size : nextSize))
    nextSize = Math.min(nextSize * 2, LARGEST)
  }

  function counted(chunk: Chunk, time: number): void {
    chunk.count++
    chunk.live++
    if (time < chunk.oldest) chunk.oldest = time
    if (time > chunk.newest) chunk.newest = time
  }

  /** Appends an entry as it stands elsewhere; it then is at `chunks.offset` of the chunk. */
  function copy(bytes: Uint8Array, at: number, size: number, time: number): Chunk {
    if (open.length + size > open.bytes!.length) openFor(size)
    open.bytes!.set(bytes.subarray(at, at + size), open.length)
    chunks.offset = open.length
    open.length += size
    counted(open, time)
    return open
  }

  /** Takes stored bytes in as a chunk, as they are; they are never written to. The caller counts its entries. */
  function adopt(bytes: Buffer): Chunk {
    const chunk = add(bytes)
    chunk.length = bytes.byteLength
    return chunk
  }

  /**
   * Finds an entry, wherever it is.
   *
   * @throws MillraceError STATE_DAMAGED when the spill file does not give back what was written to it
   */
  function read(chunk: Chunk, offset: number): Cursor {
    if (chunk.bytes) {
      chunk.touched = true
      cursor.bytes = chunk.bytes
      cursor.view = chunk.view
      cursor.at = offset
      return cursor
    }
    const wanted = Math.min(PAGE, chunk.length - offset)
    fetch(page, wanted, chunk.place + offset)
    cursor.bytes = page
    cursor.view = pageView
    cursor.at = 0
    const size = entryBytes(pageView, 0)
    if (size > wanted) {
      if (offset + size > chunk.length) throw spoilt()
      cursor.bytes = Buffer.allocUnsafeSlow(size)
      cursor.view = new DataView(cursor.bytes.buffer)
      fetch(cursor.bytes, size, chunk.place + offset)
    }
    return cursor
  }

  function fetch(into: Buffer, length: number, position: number): void {
    for (let done = 0; done < length; ) {
      const got = readSync(file!, into, done, length - done, position + done)
      if (got === 0) throw spoilt()
      done += got
    }
  }

  function spoilt(): MillraceError {
    return new MillraceError(
      'STATE_DAMAGED',
      `the spill file ${spill} was changed or cut by another program. It is a cache and nothing in it is lost: start again`,
    )
  }

  /** All bytes of a chunk; a spilled one is read, and stays where it is. */
  function whole(chunk: Chunk): Buffer {
    if (chunk.bytes) return chunk.bytes
    const bytes = Buffer.allocUnsafeSlow(chunk.length)
    fetch(bytes, chunk.length, chunk.place)
    return bytes
  }

  function free(chunk: Chunk): void {
    if (chunk.bytes) held -= chunk.bytes.byteLength
    if (chunk.place >= 0) for (let from = 0; from < chunk.length; from += LARGEST) freePlaces.push(chunk.place + from)
    byId[chunk.id] = undefined
    freeIds.push(chunk.id)
  }

  /** Writes chunks to the spill file until the rest fits. A disk that is full leaves them in memory. */
  function shrink(): void {
    if (spill === undefined || held <= memory) return
    for (let steps = byId.length * 2; held > memory && steps > 0; steps--) {
      hand = (hand + 1) % byId.length
      const chunk = byId[hand]
      if (!chunk?.bytes || chunk === open) continue
      if (chunk.touched) chunk.touched = false
      else if (!spillOne(chunk)) return
    }
  }

  function spillOne(chunk: Chunk): boolean {
    const regions = Math.ceil(chunk.length / LARGEST)
    const reused = regions === 1 ? freePlaces.pop() : undefined
    const place = reused ?? fileEnd
    try {
      if (file === undefined) {
        mkdirSync(dirname(spill!), { recursive: true })
        file = openSync(spill!, 'w+', 0o600)
      }
      for (let done = 0; done < chunk.length; )
        done += writeSync(file, chunk.bytes!, done, chunk.length - done, place + done)
    } catch {
      if (reused !== undefined) freePlaces.push(reused)
      return false
    }
    if (reused === undefined) fileEnd += regions * LARGEST
    chunk.place = place
    held -= chunk.bytes!.byteLength
    chunk.bytes = undefined
    chunk.view = NOWHERE
    return true
  }

  function close(): void {
    if (file === undefined) return
    closeSync(file)
    file = undefined
    rmSync(spill!, { force: true })
  }

  const chunks = {
    byId,
    /** Of the entry that was appended last. */
    offset: 0,
    copy,
    adopt,
    read,
    whole,
    free,
    shrink,
    close,
    isOpen: (chunk: Chunk): boolean => chunk === open,
    /** Bytes in memory. */
    held: (): number => held,
    /** Bytes of the spill file. */
    spilled: (): number => fileEnd,
  }
  return chunks
}

/** A process that was killed has left its file. One that cannot be removed is emptied before it is used, or not used. */
function removeLeftover(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch {}
}
