import { damaged, HEADER_BYTES, readHeader, requireFormat, viewOf, writeHeader } from './blob.ts'
import { type Chunk, createChunks } from './chunks.ts'
import {
  DELETED,
  ENTRY_HEAD_BYTES,
  entryBytes,
  FRESH,
  readText,
  SUPERSEDED,
  sameKey,
  sameText,
  textBytes,
} from './entry.ts'
import { MillraceError } from './errors.ts'
import { fingerprinter } from './fingerprint.ts'
import { jsonText } from './json-text.ts'
import { createShards, type Shard } from './shards.ts'
import type { Journal, StateClock, StateStructure, Table } from './state.ts'

export interface TableOptions {
  /** Milliseconds that a value is kept after the time of its last write. */
  ttl: number
  clock: StateClock
  journal: Journal
  /** The store's: fingerprints are keyed with it. */
  secret: Uint8Array
  /** Brings a stored value into today's shape; it is also given values of today's shape, and must leave these as they are. */
  revive?: ((stored: unknown) => unknown) | undefined
  /** Bytes of encoded values that stay in memory, where there is a spill file. @default 256 MB */
  memory?: number | undefined
  /** Path of a local file for the rest: a cache that is emptied when it is opened. @default none: all stays in memory */
  spill?: string | undefined
}

/** Blobs of tables: a header, then entries as in `entry.ts`, at most one a key. */
export const TABLE_FORMAT = 'table/1'

/** Words of a directory slot: the key's fingerprint (two), chunk (0: the slot is free again), offset in the chunk. */
const WIDTH = 4
/** Words of a note: fingerprint (two), where the new entry is (two), where the former one is (two; chunk 0: nowhere). */
const NOTE = 6
/** Decoded values are kept for this many keys that were used last, and as many again while they are used. */
const HOT_KEYS = 16_384
const HOT_BYTES = 8 * 1024 * 1024
const CHUNK_BYTES = 262_144

/** A decoded value, and where its entry was seen last. */
interface Hot {
  value: unknown
  time: number
  readonly f0: number
  readonly f1: number
  chunk: number
  offset: number
}

/**
 * Values by key, as JSON text outside the JavaScript heap: about 29 bytes a key for its place, and its text. Values that
 * were used lately are kept decoded too. What a value is, is its text: an undone write is decoded again, so that a
 * function that changed a value it was given cannot corrupt what is stored.
 *
 * A write appends; what it replaced, and what is dead at a committed watermark, is collected in bounded pieces at
 * commits. Between `delta` and `sealed` nothing may be written.
 */
export function createTable<V>({
  ttl,
  clock,
  journal,
  secret,
  revive,
  memory = 256 * 1024 * 1024,
  spill,
}: TableOptions) {
  const fingerprint = fingerprinter(secret)
  const chunks = createChunks({ memory, spill })
  const shards = createShards(WIDTH, ({ words }, at) => words[at + 2] === 0)
  let young = new Map<string, Hot>()
  let old = new Map<string, Hot>()
  let youngBytes = 0
  /** The last look-up among them: a set mostly follows a get of the same key. */
  let hotKey: string | undefined
  let hotLast: Hot | undefined
  let size = 0
  /** What a failed epoch cannot take back: only what is dead at this watermark may be collected. */
  let settled = Number.NEGATIVE_INFINITY
  let hand = 0
  let log = new Int32Array(NOTE * 64)
  const keys: string[] = []

  let lastKey: string | undefined
  let f0 = 0
  let f1 = 0
  /** Where `find` ended: the slot, if there was one, or -1. */
  let shard: Shard = shards.directory[0]!
  let slot = -1

  /** Takes the key's fingerprint, and looks its slot up; `hot` tells where its entry is, so that it need not be read. */
  function find(key: string, hot: Hot | undefined): boolean {
    if (hot !== undefined) {
      f0 = hot.f0
      f1 = hot.f1
    } else if (key !== lastKey) {
      fingerprint.of(key)
      f0 = fingerprint.h0 || 1
      f1 = fingerprint.h1
    }
    lastKey = hot === undefined ? key : undefined
    shard = shards.directory[f1 & shards.reach]!
    const { words } = shard
    const end = words.length
    let at = (f0 & shard.mask) * WIDTH
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      if (word === f0 && words[at + 1] === f1 && words[at + 2] !== 0) {
        if (hot !== undefined && hot.chunk === words[at + 2] && hot.offset === words[at + 3]) return found(at)
        const { bytes, view, at: entry } = chunks.read(chunks.byId[words[at + 2]!]!, words[at + 3]!)
        if (view.getInt32(entry, true) !== f0 || view.getInt32(entry + 4, true) !== f1) {
          throw new MillraceError(
            'STATE_DAMAGED',
            `the spill file ${spill} was changed by another program. It is a cache and nothing in it is lost: start again`,
          )
        }
        if (sameText(bytes, entry + ENTRY_HEAD_BYTES, view.getInt32(entry + 16, true) & ~DELETED, key)) return found(at)
      }
      at += WIDTH
      if (at === end) at = 0
    }
    slot = -1
    return false
  }

  function found(at: number): true {
    slot = at
    return true
  }

  /** Looks up the slot that points at an entry. */
  function locate(h0: number, h1: number, chunk: number, offset: number): boolean {
    shard = shards.directory[h1 & shards.reach]!
    const { words } = shard
    const end = words.length
    let at = (h0 & shard.mask) * WIDTH
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      if (words[at + 3] === offset && words[at + 2] === chunk && word === h0) return found(at)
      at += WIDTH
      if (at === end) at = 0
    }
    return false
  }

  /** Takes a slot for a key that has none. */
  function take(h0: number, h1: number): void {
    shard = shards.room(h1)
    const { words } = shard
    const end = words.length
    let at = (h0 & shard.mask) * WIDTH
    while (words[at] !== 0 && words[at + 2] !== 0) {
      at += WIDTH
      if (at === end) at = 0
    }
    if (words[at] === 0) shard.used++
    else shard.gone--
    words[at] = h0
    words[at + 1] = h1
    slot = at
  }

  function point(chunk: number, offset: number): void {
    shard.words[slot + 2] = chunk
    shard.words[slot + 3] = offset
  }

  function release(): void {
    shard.words[slot + 2] = 0
    shard.gone++
  }

  function ofThisEpoch(chunk: Chunk, offset: number): boolean {
    return offset >= chunk.since
  }

  /** Whether an entry, or none, stands for a value; only an entry of this epoch can say that its key was deleted. */
  function holds(chunk: Chunk | undefined, offset: number): boolean {
    if (chunk === undefined) return false
    return !ofThisEpoch(chunk, offset) || (chunk.view.getInt32(offset + 16, true) & DELETED) === 0
  }

  /** Appends an entry for the key that `find` looked up, and points its slot there. */
  function write(key: string, text: string, time: number, flags: number): Chunk {
    const before = slot < 0 ? undefined : chunks.byId[shard.words[slot + 2]!]
    const beforeOffset = slot < 0 ? 0 : shard.words[slot + 3]!
    const inEpoch = before !== undefined && ofThisEpoch(before, beforeOffset)
    const fresh = before === undefined || (inEpoch && (before.view.getInt32(beforeOffset + 20, true) & FRESH) !== 0)
    const chunk = chunks.append(f0, f1, time, key, text, flags, fresh ? FRESH : 0)
    if (before === undefined) take(f0, f1)
    else before.live--
    if (inEpoch) chunks.supersede(before!, beforeOffset, true)
    point(chunk.id, chunks.offset)
    size += (flags === 0 ? 1 : 0) - (holds(before, beforeOffset) ? 1 : 0)
    const at = keys.length * NOTE
    if (at === log.length) {
      const larger = new Int32Array(log.length * 2)
      larger.set(log)
      log = larger
    }
    log[at] = f0
    log[at + 1] = f1
    log[at + 2] = chunk.id
    log[at + 3] = chunks.offset
    log[at + 4] = before === undefined ? 0 : before.id
    log[at + 5] = beforeOffset
    keys.push(key)
    journal.note(table)
    return chunk
  }

  function remember(key: string, hot: Hot, bytes: number): void {
    young.set(key, hot)
    youngBytes += bytes
    hotKey = key
    hotLast = hot
    if (young.size < HOT_KEYS && youngBytes < HOT_BYTES) return
    old = young
    young = new Map()
    youngBytes = 0
  }

  function forget(key: string): void {
    young.delete(key)
    old.delete(key)
    hotKey = undefined
  }

  function hotOf(key: string): Hot | undefined {
    if (key === hotKey) return hotLast
    let hot = young.get(key)
    if (hot === undefined) {
      hot = old.get(key)
      if (hot !== undefined) remember(key, hot, HOT_BYTES / HOT_KEYS)
    }
    hotKey = key
    hotLast = hot
    return hot
  }

  function decode(text: string): unknown {
    const stored: unknown = JSON.parse(text)
    return revive === undefined ? stored : revive(stored)
  }

  /** Moves what is alive out of a chunk, and frees it. */
  function collect(chunk: Chunk): void {
    const bytes = chunks.whole(chunk)
    const view = chunk.bytes ? chunk.view : viewOf(bytes)
    for (let at = 0; at < chunk.length; ) {
      const entry = at
      at += entryBytes(view, entry)
      if ((view.getInt32(entry + 20, true) & SUPERSEDED) !== 0) continue
      const time = view.getFloat64(entry + 8, true)
      if (!locate(view.getInt32(entry, true), view.getInt32(entry + 4, true), chunk.id, entry)) continue
      if (time + ttl <= settled) {
        release()
        size--
      } else {
        const to = chunks.copy(bytes, entry, at - entry, time)
        point(to.id, chunks.offset)
      }
    }
    chunks.free(chunk)
  }

  /** Collects chunks that are half garbage, or half dead by their times, up to twice the bytes that were appended. */
  function collectSome(appended: number): void {
    const { byId } = chunks
    let left = 2 * appended + CHUNK_BYTES
    for (let looked = Math.max(64, byId.length >> 4); looked > 0 && left > 0; looked--) {
      hand = hand + 1 < byId.length ? hand + 1 : 1
      const chunk = byId[hand]
      if (chunk === undefined || chunk === chunks.open) continue
      if (chunk.live * 2 > chunk.count && (chunk.oldest + chunk.newest) / 2 + ttl > settled) continue
      left -= chunk.length
      collect(chunk)
    }
  }

  function load(bytes: Uint8Array, format: string): void {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const view = viewOf(bytes)
    const end = bytes.byteLength
    let { count } = readHeader(format, bytes)
    for (let from = HEADER_BYTES; from < end; ) {
      const to = cut(view, from, end, format)
      const chunk = chunks.adopt(buffer.subarray(from, to))
      for (let at = from; at < to; count--) {
        loadEntry(chunk, view, at, at - from)
        at += entryBytes(view, at)
      }
      from = to
      chunks.shrink()
    }
    if (count !== 0) throw damaged(format, `its header says ${count} entries more than there are`)
  }

  function loadEntry(chunk: Chunk, view: DataView, at: number, offset: number): void {
    const h0 = view.getInt32(at, true)
    const h1 = view.getInt32(at + 4, true)
    const time = view.getFloat64(at + 8, true)
    const deleted = (view.getInt32(at + 16, true) & DELETED) !== 0
    chunk.count++
    if (time < chunk.oldest) chunk.oldest = time
    if (time > chunk.newest) chunk.newest = time
    if (findLike(h0, h1, view, at)) {
      chunks.byId[shard.words[slot + 2]!]!.live--
      if (deleted) {
        release()
        size--
        return
      }
    } else {
      if (deleted) return
      take(h0, h1)
      size++
    }
    chunk.live++
    point(chunk.id, offset)
  }

  /** Looks up the slot of an entry's key. */
  function findLike(h0: number, h1: number, view: DataView, entry: number): boolean {
    shard = shards.directory[h1 & shards.reach]!
    const { words } = shard
    const end = words.length
    let at = (h0 & shard.mask) * WIDTH
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      if (word === h0 && words[at + 1] === h1 && words[at + 2] !== 0) {
        const cursor = chunks.read(chunks.byId[words[at + 2]!]!, words[at + 3]!)
        if (sameKey(view, entry, cursor.view, cursor.at)) return found(at)
      }
      at += WIDTH
      if (at === end) at = 0
    }
    return false
  }

  const table = {
    format: TABLE_FORMAT,

    get(key: string): V | undefined {
      const hot = hotOf(key)
      if (hot !== undefined) return hot.time + ttl > clock.watermark ? (hot.value as V) : undefined
      if (!find(key, undefined)) return undefined
      const { words } = shard
      const { bytes, view, at } = chunks.read(chunks.byId[words[slot + 2]!]!, words[slot + 3]!)
      const keyWord = view.getInt32(at + 16, true)
      const time = view.getFloat64(at + 8, true)
      if ((keyWord & DELETED) !== 0 || time + ttl <= clock.watermark) return undefined
      const valueWord = view.getInt32(at + 20, true)
      const text = readText(bytes, at + ENTRY_HEAD_BYTES + textBytes(keyWord & ~DELETED), valueWord)
      const value = decode(text)
      remember(key, { value, time, f0, f1, chunk: words[slot + 2]!, offset: words[slot + 3]! }, 128 + 4 * text.length)
      return value as V
    },

    set(key: string, value: V, time: number): void {
      const { text, exact } = jsonText(value)
      const hot = hotOf(key)
      find(key, hot)
      const chunk = write(key, text, time, 0)
      if (!exact || revive !== undefined) forget(key)
      else if (hot === undefined)
        remember(key, { value, time, f0, f1, chunk: chunk.id, offset: chunks.offset }, 128 + 4 * text.length)
      else {
        hot.value = value
        hot.time = time
        hot.chunk = chunk.id
        hot.offset = chunks.offset
      }
    },

    delete(key: string): void {
      const hot = hotOf(key)
      if (!find(key, hot)) return
      const chunk = chunks.byId[shard.words[slot + 2]!]!
      const offset = shard.words[slot + 3]!
      if (!holds(chunk, offset)) return
      let time = hot?.time
      if (time === undefined) {
        const { view, at } = chunks.read(chunk, offset)
        time = view.getFloat64(at + 8, true)
      }
      write(key, '', time, DELETED)
      forget(key)
    },

    *entries(): Generator<[key: string, value: V]> {
      const places: [number, number][] = []
      for (const { words } of shards.all()) {
        for (let at = 0; at < words.length; at += WIDTH)
          if (words[at] !== 0 && words[at + 2] !== 0) places.push([words[at + 2]!, words[at + 3]!])
      }
      for (const [id, offset] of places) {
        const chunk = chunks.byId[id]
        if (chunk === undefined || !holds(chunk, offset)) continue
        const { bytes, view, at } = chunks.read(chunk, offset)
        if (view.getFloat64(at + 8, true) + ttl <= clock.watermark) continue
        const keyWord = view.getInt32(at + 16, true)
        const key = readText(bytes, at + ENTRY_HEAD_BYTES, keyWord)
        const value = decode(readText(bytes, at + ENTRY_HEAD_BYTES + textBytes(keyWord), view.getInt32(at + 20, true)))
        yield [key, value as V]
      }
    },

    undo(): void {
      const key = keys.pop()!
      const at = keys.length * NOTE
      const chunk = chunks.byId[log[at + 2]!]!
      const offset = log[at + 3]!
      const before = chunks.byId[log[at + 4]!]
      const beforeOffset = log[at + 5]!
      locate(log[at]!, log[at + 1]!, chunk.id, offset)
      size += (holds(before, beforeOffset) ? 1 : 0) - (holds(chunk, offset) ? 1 : 0)
      chunk.live--
      chunks.supersede(chunk, offset, true)
      if (before === undefined) release()
      else {
        point(before.id, beforeOffset)
        before.live++
        if (ofThisEpoch(before, beforeOffset)) chunks.supersede(before, beforeOffset, false)
      }
      forget(key)
    },

    delta(): Uint8Array | undefined {
      if (keys.length === 0) return undefined
      let length = HEADER_BYTES
      let count = 0
      let oldest = Number.POSITIVE_INFINITY
      let newest = Number.NEGATIVE_INFINITY
      const runs: { bytes: Buffer; from: number; to: number }[] = []
      for (const chunk of chunks.written) {
        const { view, bytes } = chunk
        for (let at = chunk.since; at < chunk.length; ) {
          const entry = at
          at += entryBytes(view, entry)
          const flags = view.getInt32(entry + 20, true)
          if ((flags & SUPERSEDED) !== 0) continue
          if ((flags & FRESH) !== 0 && (view.getInt32(entry + 16, true) & DELETED) !== 0) continue
          const time = view.getFloat64(entry + 8, true)
          if (time < oldest) oldest = time
          if (time > newest) newest = time
          count++
          length += at - entry
          const run = runs.at(-1)
          if (run !== undefined && run.bytes === bytes && run.to === entry) run.to = at
          else runs.push({ bytes: bytes!, from: entry, to: at })
        }
      }
      if (count === 0) return undefined
      const delta = new Uint8Array(length)
      writeHeader(viewOf(delta), { count, keep: ttl, oldest, newest })
      let at = HEADER_BYTES
      for (const { bytes, from, to } of runs) {
        delta.set(bytes.subarray(from, to), at)
        at += to - from
      }
      return delta
    },

    sealed(): void {
      if (keys.length === 0 && clock.watermark === settled) return
      let appended = 0
      for (const chunk of chunks.written) appended += chunk.length - chunk.since
      for (let i = 0; i < keys.length; i++) {
        const at = i * NOTE
        const chunk = chunks.byId[log[at + 2]!]!
        const offset = log[at + 3]!
        if (holds(chunk, offset) || !locate(log[at]!, log[at + 1]!, chunk.id, offset)) continue
        release()
        chunk.live--
      }
      keys.length = 0
      if (Number.isFinite(clock.watermark) && clock.watermark > settled) settled = clock.watermark
      collectSome(appended)
      chunks.settle()
      chunks.shrink()
    },

    load(blobs: readonly { readonly id: number; readonly format: string; readonly bytes: Uint8Array }[]): void {
      let total = 0
      for (const { format, bytes } of blobs) {
        requireFormat(format, TABLE_FORMAT)
        const { count } = readHeader(format, bytes)
        if (count * ENTRY_HEAD_BYTES > bytes.byteLength)
          throw damaged(format, `it has ${bytes.byteLength} bytes for ${count} entries`)
        total += count
      }
      if (total === 0) return
      shards.reserve(total)
      for (const { format, bytes } of blobs) load(bytes, format)
    },

    /** Closes and removes the spill file. */
    close(): void {
      chunks.close()
    },

    get memory(): number {
      return chunks.held + shards.bytes + log.byteLength + youngBytes * 2
    },

    get size(): number {
      return size
    },

    /** Bytes that the values would take in one blob, about. */
    get live(): number {
      let sum = 0
      for (const chunk of chunks.byId)
        if (chunk !== undefined && chunk.count > 0) sum += (chunk.length * chunk.live) / chunk.count
      return Math.round(sum)
    },
  } satisfies Table<V> & StateStructure & { readonly live: number; close(): void }
  return table
}

/** Where to end a chunk that begins at this entry: after some 256 kB of whole entries. */
function cut(view: DataView, from: number, end: number, format: string): number {
  let at = from
  while (at < end && at - from < CHUNK_BYTES) {
    if (at + ENTRY_HEAD_BYTES > end) throw damaged(format, 'its last entry is cut off')
    const next = at + entryBytes(view, at)
    if (next > end) throw damaged(format, 'an entry is longer than what is left')
    if (next - from > CHUNK_BYTES && at > from) break
    at = next
  }
  return at
}
