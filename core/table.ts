import { Amounts } from './amounts.ts'
import { damaged, HEADER_BYTES, readHeader, requireFormat, viewOf, writeHeader } from './blob.ts'
import { type Chunk, createChunks } from './chunks.ts'
import { DELETED, ENTRY_HEAD_BYTES, entryBytes, readText, sameKey, sameText, textBytes, writeEntry } from './entry.ts'
import { MillraceError } from './errors.ts'
import { fingerprinter } from './fingerprint.ts'
import { jsonText } from './json-text.ts'
import { createShards, type Shard, slotRank } from './shards.ts'
import type { Journal, StateClock, StateStructure, Table } from './state.ts'

export interface TableOptions {
  /** What messages call it. @default 'table' */
  name?: string | undefined
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
  /** Characters of a key and the JSON text of its value together. @default 16,777,216 */
  largest?: number | undefined
}

/** Blobs of tables: a header, then entries as in `entry.ts`, at most one a key. */
export const TABLE_FORMAT = 'table/1'

/** Words of a directory slot: the key's fingerprint (two), chunk (0: the slot is free again), offset in the chunk. */
const WIDTH = 4
/** Keys that were used last are kept decoded, and as many again while they are used. */
const HOT_KEYS = 16_384
const HOT_BYTES = 16 * 1024 * 1024
const CHUNK_BYTES = 262_144
const NONE = -1
/** Among what writes replaced: the text is that of the entry. */
const ENTRY = ''
/** A larger buffer is not kept for the next epoch. */
const MOST_SCRATCH = 4 * 1024 * 1024

/** A key that was used lately: what it holds now, and where its entry was seen last. */
interface Hot {
  readonly key: string
  readonly f0: number
  readonly f1: number
  /** Whether the key holds a value, dead or alive. */
  exists: boolean
  value: unknown
  /** The value's text: of one that was written in this epoch, and of one that must be decoded from it. */
  text: string | undefined
  /** `value` is not what the text says, and is decoded from it when it is wanted. */
  stale: boolean
  time: number
  /** Was written in the epoch that is under way. */
  dirty: boolean
  chunk: number
  offset: number
  /** Where the entry is in the delta, or NONE. */
  place: number
}

/** A blob that was taken in as chunks, of which the entries before `at` have been entered into the directory. */
interface StoredEntries {
  readonly view: DataView
  readonly chunks: readonly Chunk[]
  /** Its entries are in the order of `slotRank`. */
  readonly ranked: boolean
  /** The chunk after the one that `at` is in, and the bytes of that one. */
  next: number
  from: number
  to: number
  at: number
}

/**
 * Values by key, as JSON text outside the JavaScript heap: about 29 bytes a key for its place, and its text. Keys that
 * were used lately are kept decoded too. What a value is, is its text: an undone write is decoded again, so that a
 * function that changed a value it was given cannot corrupt what is stored.
 *
 * What an epoch writes is appended when the epoch is sealed, once a key; what that replaced, and what is dead at a sealed
 * watermark, is collected in bounded pieces then.
 */
export function createTable<V>({
  name = 'table',
  ttl,
  clock,
  journal,
  secret,
  revive,
  memory = 256 * 1024 * 1024,
  spill,
  largest = 16 * 1024 * 1024,
}: TableOptions) {
  const fingerprint = fingerprinter(secret)
  const chunks = createChunks({ memory, spill })
  const shards = createShards(WIDTH, ({ words }, at) => words[at + 2] === 0)
  let young = new Map<string, Hot>()
  let old = new Map<string, Hot>()
  let youngBytes = 0
  let mostKeys = HOT_KEYS
  let mostBytes = HOT_BYTES
  /** The last look-up among them: a set mostly follows a get of the same key. */
  let lastHot: Hot | undefined
  /** What a failed epoch cannot take back: only what is dead at this watermark may be collected. */
  let settled = Number.NEGATIVE_INFINITY
  let hand = 0
  /** Keys that the epoch has written, some of them undone; and for each write, what was there before. */
  let dirty: Hot[] = []
  const written: Hot[] = []
  const texts: (string | undefined)[] = []
  const times: number[] = []
  /** The delta, while the epoch is being sealed. */
  let scratch: Buffer = Buffer.alloc(0)

  /** Where `find` ended: the slot, if there was one, or NONE. */
  let shard: Shard = shards.directory[0]!
  let slot = NONE

  /** Looks the slot of a key up. An entry at the place where it was seen last need not be read. */
  function find(key: string, f0: number, f1: number, chunk: number, offset: number): boolean {
    shard = shards.directory[f1 & shards.reach]!
    const { words } = shard
    const end = words.length
    let at = (f0 & shard.mask) * WIDTH
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      if (word === f0 && words[at + 1] === f1 && words[at + 2] !== 0) {
        if (chunk === words[at + 2] && offset === words[at + 3]) return found(at)
        const { bytes, view, at: entry } = chunks.read(chunks.byId[words[at + 2]!]!, words[at + 3]!)
        if (view.getInt32(entry, true) !== f0 || view.getInt32(entry + 4, true) !== f1) {
          throw new MillraceError(
            'STATE_DAMAGED',
            `the spill file ${spill} was changed by another program. It is a cache and nothing in it is lost: start again`,
          )
        }
        if (sameText(bytes, entry + ENTRY_HEAD_BYTES, view.getInt32(entry + 16, true), key)) return found(at)
      }
      at += WIDTH
      if (at === end) at = 0
    }
    slot = NONE
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

  function remember(hot: Hot, bytes: number): void {
    young.set(hot.key, hot)
    youngBytes += bytes
    lastHot = hot
    if (young.size < mostKeys && youngBytes < mostBytes) return
    const gone = old
    old = young
    young = new Map()
    youngBytes = 0
    for (const kept of dirty) {
      if (!kept.dirty || gone.get(kept.key) !== kept || old.has(kept.key)) continue
      young.set(kept.key, kept)
      youngBytes += HOT_BYTES / HOT_KEYS
    }
    mostKeys = young.size + HOT_KEYS
    mostBytes = youngBytes + HOT_BYTES
  }

  function forget(hot: Hot): void {
    young.delete(hot.key)
    old.delete(hot.key)
    lastHot = undefined
  }

  /** What is known of a key; `wanted`: its value will be read, and not only replaced. */
  function hotOf(key: string, wanted: boolean): Hot {
    if (lastHot !== undefined && lastHot.key === key) return lastHot
    let hot = young.get(key)
    if (hot === undefined) {
      hot = old.get(key)
      if (hot === undefined) return takeIn(key, wanted)
      remember(hot, HOT_BYTES / HOT_KEYS)
    }
    lastHot = hot
    return hot
  }

  /** Takes a key in that was not used lately. */
  function takeIn(key: string, wanted: boolean): Hot {
    fingerprint.of(key)
    const f0 = fingerprint.h0 || 1
    const f1 = fingerprint.h1
    const hot: Hot = {
      key,
      f0,
      f1,
      exists: false,
      value: undefined,
      text: undefined,
      stale: false,
      time: 0,
      dirty: false,
      chunk: 0,
      offset: 0,
      place: NONE,
    }
    let size = 128
    if (find(key, f0, f1, 0, 0)) {
      const chunk = shard.words[slot + 2]!
      const offset = shard.words[slot + 3]!
      const { bytes, view, at } = chunks.read(chunks.byId[chunk]!, offset)
      hot.exists = true
      hot.chunk = chunk
      hot.offset = offset
      hot.time = view.getFloat64(at + 8, true)
      hot.stale = true
      if (wanted) {
        const valueAt = at + ENTRY_HEAD_BYTES + textBytes(view.getInt32(at + 16, true))
        hot.text = readText(bytes, valueAt, view.getInt32(at + 20, true))
        size += 4 * hot.text.length
      }
    }
    remember(hot, size)
    return hot
  }

  /** Notes what a write replaces, for `undo`. */
  function note(hot: Hot): void {
    written.push(hot)
    // of a key that was not written before in this epoch, the entry has the text
    texts.push(hot.dirty ? (hot.exists ? hot.text : undefined) : ENTRY)
    times.push(hot.time)
    journal.note(table)
    if (hot.dirty) return
    hot.dirty = true
    dirty.push(hot)
  }

  function tooLarge(key: string, text: string): MillraceError {
    return new MillraceError(
      'STATE_TOO_LARGE',
      `${name}: a key of ${key.length} characters was given a value of ${text.length} characters of JSON, and both together may have ${largest}. Keep less of it, such as the latest entries only, or spread it over several keys`,
    )
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
      const time = view.getFloat64(entry + 8, true)
      if (!locate(view.getInt32(entry, true), view.getInt32(entry + 4, true), chunk.id, entry)) continue
      if (time + ttl <= settled) {
        release()
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
      if (chunk === undefined || chunks.isOpen(chunk)) continue
      if (chunk.live * 2 > chunk.count && (chunk.oldest + chunk.newest) / 2 + ttl > settled) continue
      left -= chunk.length
      collect(chunk)
    }
  }

  /** Takes stored bytes in as chunks of some 256 kB, as they are. @throws MillraceError STATE_DAMAGED */
  function adopt(bytes: Uint8Array, format: string): StoredEntries {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const view = viewOf(bytes)
    const end = bytes.byteLength
    const adopted: Chunk[] = []
    let ranked = true
    let rank = 0
    const { count: said } = readHeader(format, bytes)
    let left = said
    for (let from = HEADER_BYTES; from < end; ) {
      let at = from
      let count = 0
      let oldest = Number.POSITIVE_INFINITY
      let newest = Number.NEGATIVE_INFINITY
      while (at < end && at - from < CHUNK_BYTES) {
        if (at + ENTRY_HEAD_BYTES > end) throw damaged(format, 'its last entry is cut off')
        const next = at + entryBytes(view, at)
        if (next > end) throw damaged(format, 'an entry is longer than what is left')
        if (next - from > CHUNK_BYTES && at > from) break
        const time = view.getFloat64(at + 8, true)
        if (time < oldest) oldest = time
        if (time > newest) newest = time
        const before = rank
        rank = slotRank(view.getInt32(at, true), view.getInt32(at + 4, true))
        if (rank < before) ranked = false
        at = next
        count++
      }
      const chunk = chunks.adopt(buffer.subarray(from, at))
      chunk.count = count
      chunk.oldest = oldest
      chunk.newest = newest
      adopted.push(chunk)
      left -= count
      from = at
    }
    if (left !== 0) throw damaged(format, `its header says ${said} entries, and it has others`)
    return { view, chunks: adopted, ranked, next: 0, from: HEADER_BYTES, to: HEADER_BYTES, at: HEADER_BYTES }
  }

  /** Enters what adopted blobs hold, oldest first, into the directory: of ranked ones shard by shard. */
  function enter(group: readonly StoredEntries[]): void {
    const { reach } = shards
    if (group.length > 1)
      for (const prefix of shards.inRankOrder()) for (const stored of group) enterSome(stored, reach, prefix)
    for (const stored of group) enterSome(stored, 0, 0)
    chunks.shrink()
  }

  /** Enters entries as long as they belong to the shard. */
  function enterSome(stored: StoredEntries, reach: number, prefix: number): void {
    const { view } = stored
    const end = view.byteLength
    let { at } = stored
    while (at < end && (view.getInt32(at + 4, true) & reach) === prefix) {
      if (at === stored.to) {
        stored.from = at
        stored.to = at + stored.chunks[stored.next++]!.length
      }
      enterOne(stored.chunks[stored.next - 1]!, view, at, at - stored.from)
      at += entryBytes(view, at)
    }
    stored.at = at
  }

  function enterOne(chunk: Chunk, view: DataView, at: number, offset: number): void {
    const h0 = view.getInt32(at, true)
    const h1 = view.getInt32(at + 4, true)
    const deleted = (view.getInt32(at + 16, true) & DELETED) !== 0
    if (findLike(h0, h1, view, at)) {
      chunks.byId[shard.words[slot + 2]!]!.live--
      if (deleted) return release()
    } else {
      if (deleted) return
      take(h0, h1)
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

  const amounts = new Amounts({
    memory: () => chunks.held() + shards.bytes + scratch.byteLength + youngBytes * 2,
    size() {
      let size = shards.size()
      for (const hot of dirty) {
        if (hot.dirty) size += (hot.exists ? 1 : 0) - (find(hot.key, hot.f0, hot.f1, hot.chunk, hot.offset) ? 1 : 0)
      }
      return size
    },
    live() {
      let sum = 0
      for (const chunk of chunks.byId)
        if (chunk !== undefined && chunk.count > 0) sum += (chunk.length * chunk.live) / chunk.count
      return Math.round(sum)
    },
  })
  const table = Object.assign(amounts, {
    format: TABLE_FORMAT,

    get(key: string): V | undefined {
      const hot = hotOf(key, true)
      if (!hot.exists || hot.time + ttl <= clock.watermark) return undefined
      if (hot.stale) {
        hot.value = decode(hot.text!)
        hot.stale = false
        if (!hot.dirty) hot.text = undefined
      }
      return hot.value as V
    },

    set(key: string, value: V, time: number): void {
      const { text, exact } = jsonText(value)
      if (text.length + key.length > largest) throw tooLarge(key, text)
      const hot = hotOf(key, false)
      note(hot)
      hot.exists = true
      hot.text = text
      hot.time = time
      hot.stale = !exact || revive !== undefined
      hot.value = hot.stale ? undefined : value
    },

    delete(key: string): void {
      const hot = hotOf(key, false)
      if (!hot.exists) return
      note(hot)
      hot.exists = false
      hot.value = undefined
      hot.text = undefined
      hot.stale = false
    },

    *entries(): Generator<[key: string, value: V]> {
      const changed = new Map<string, Hot>()
      for (const hot of dirty) if (hot.dirty) changed.set(hot.key, hot)
      const places: [number, number][] = []
      for (const { words } of shards.all()) {
        for (let at = 0; at < words.length; at += WIDTH)
          if (words[at] !== 0 && words[at + 2] !== 0) places.push([words[at + 2]!, words[at + 3]!])
      }
      for (const [id, offset] of places) {
        const chunk = chunks.byId[id]
        if (chunk === undefined) continue
        const { bytes, view, at } = chunks.read(chunk, offset)
        if (view.getFloat64(at + 8, true) + ttl <= clock.watermark) continue
        const keyWord = view.getInt32(at + 16, true)
        const key = readText(bytes, at + ENTRY_HEAD_BYTES, keyWord)
        if (changed.has(key)) continue
        const value = decode(readText(bytes, at + ENTRY_HEAD_BYTES + textBytes(keyWord), view.getInt32(at + 20, true)))
        yield [key, value as V]
      }
      for (const { key, exists, time, text } of changed.values())
        if (exists && time + ttl > clock.watermark) yield [key, decode(text!) as V]
    },

    undo(): void {
      const hot = written.pop()!
      const text = texts.pop()
      hot.time = times.pop()!
      hot.value = undefined
      if (text === ENTRY) {
        hot.dirty = false
        forget(hot)
      } else {
        hot.exists = text !== undefined
        hot.text = text
        hot.stale = hot.exists
      }
    },

    delta(): Uint8Array | undefined {
      let most = HEADER_BYTES
      let count = 0
      let oldest = Number.POSITIVE_INFINITY
      let newest = Number.NEGATIVE_INFINITY
      dirty = dirty.filter((hot) => hot.dirty)
      for (const hot of dirty) {
        hot.place = NONE
        if (!hot.exists && !find(hot.key, hot.f0, hot.f1, hot.chunk, hot.offset)) continue
        hot.place = 0
        most += ENTRY_HEAD_BYTES + 2 * (hot.key.length + (hot.text?.length ?? 0))
        count++
        if (hot.time < oldest) oldest = hot.time
        if (hot.time > newest) newest = hot.time
      }
      if (count === 0) return undefined
      if (scratch.length < most) scratch = Buffer.allocUnsafeSlow(2 * most)
      const view = viewOf(scratch)
      writeHeader(view, { count, keep: ttl, oldest, newest })
      let at = HEADER_BYTES
      for (const hot of dirty) {
        if (hot.place === NONE) continue
        hot.place = at
        at = writeEntry(scratch, view, at, hot.f0, hot.f1, hot.time, hot.key, hot.text ?? '', hot.exists ? 0 : DELETED)
      }
      return new Uint8Array(scratch.subarray(0, at))
    },

    sealed(): void {
      if (dirty.length === 0 && clock.watermark === settled) return
      const view = viewOf(scratch)
      let appended = 0
      for (const hot of dirty) {
        const { key, f0, f1, place, exists } = hot
        hot.dirty = false
        if (!hot.stale) hot.text = undefined
        if (place === NONE) continue
        hot.place = NONE
        const known = find(key, f0, f1, hot.chunk, hot.offset)
        if (known) chunks.byId[shard.words[slot + 2]!]!.live--
        if (!exists) {
          if (known) release()
          hot.chunk = 0
          continue
        }
        const size = entryBytes(view, place)
        const to = chunks.copy(scratch, place, size, hot.time)
        appended += size
        if (!known) take(f0, f1)
        point(to.id, chunks.offset)
        hot.chunk = to.id
        hot.offset = chunks.offset
      }
      dirty = []
      written.length = 0
      texts.length = 0
      times.length = 0
      if (scratch.length > MOST_SCRATCH) scratch = Buffer.alloc(0)
      if (Number.isFinite(clock.watermark) && clock.watermark > settled) settled = clock.watermark
      collectSome(appended)
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
      let ranked: StoredEntries[] = []
      for (const { format, bytes } of blobs) {
        const stored = adopt(bytes, format)
        if (stored.ranked) ranked.push(stored)
        else {
          enter(ranked)
          enter([stored])
          ranked = []
        }
      }
      enter(ranked)
    },

    /** Closes and removes the spill file. */
    close(): void {
      chunks.close()
    },
  })
  return table satisfies Table<V> & StateStructure & { readonly live: number; close(): void }
}
