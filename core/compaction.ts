import { damaged, HEADER_BYTES, readHeader, viewOf, writeHeader } from './blob.ts'
import { DELETED, ENTRY_HEAD_BYTES, entryBytes, readText, sameKey, textBytes } from './entry.ts'
import { MillraceError } from './errors.ts'
import { countExpiringSet, EXPIRING_SET_ENTRY_BYTES, EXPIRING_SET_FORMAT } from './expiring-set.ts'
import { byRank, createShards, slotRank } from './shards.ts'
import { TABLE_FORMAT } from './table.ts'
import { TIMER_HEAD_BYTES, TIMERS_FORMAT, timerEnd } from './timers.ts'

export interface MergeOptions {
  /** The blobs are the oldest of their slot: what deletes an older entry need not be kept. */
  oldest: boolean
  /** What is dead at this watermark is dropped; one that is not finite drops nothing. */
  horizon: number
}

/**
 * What several blobs of one slot say together, as one blob; undefined when nothing is left of it. The same blobs give
 * the same bytes. Entries come out in the order in which a load fills its memory fastest.
 *
 * @param blobs that follow one another, oldest first
 * @throws MillraceError STATE_DAMAGED, STATE_TOO_NEW
 */
export function mergeBlobs(
  format: string,
  blobs: readonly Uint8Array[],
  { oldest, horizon }: MergeOptions,
): Uint8Array | undefined {
  const dropAt = Number.isFinite(horizon) ? horizon : Number.NEGATIVE_INFINITY
  switch (format) {
    case EXPIRING_SET_FORMAT:
      return mergeExpiringSets(blobs, dropAt)
    case TABLE_FORMAT:
      return mergeTables(blobs, oldest, dropAt)
    case TIMERS_FORMAT:
      return mergeTimers(blobs, oldest)
    default:
      throw unknownFormat(format)
  }
}

/** The watermark at which nothing of a blob is alive any more; infinity for timers, which do not die. */
export function expiryOf(format: string, bytes: Uint8Array): number {
  const { keep, newest } = readHeader(format, bytes)
  return format === TIMERS_FORMAT ? Number.POSITIVE_INFINITY : newest + keep
}

/** A stored blob, as `planCompaction` weighs it. */
export interface BlobWeight {
  readonly id: number
  readonly bytes: number
  /** From {@link expiryOf}. @default never */
  readonly expires?: number
}

export interface PlanOptions {
  /** Watermark of the last commit. @default none: nothing is dead */
  horizon?: number
  /** Bytes that what is alive would take in one blob. @default unknown: large blobs are merged like small ones */
  live?: number
  /** Bytes of blobs that one merge takes, unless much is to be gained. @default 128 MB */
  limit?: number
}

const FEWEST = 8
const GROWTH = 4

/**
 * Which blobs to merge next, by their ids, oldest first; undefined when none. The leading blobs that are dead whole go
 * first; then a run of at least eight neighbours that together weigh four times the heaviest of them, so that the
 * number of blobs, and the number of times that a byte is written again, grow with the logarithm of what is stored; and
 * all of them, when less than half of what is stored is alive and it is more than a merge may take.
 */
export function planCompaction(
  blobs: readonly BlobWeight[],
  { horizon = Number.NEGATIVE_INFINITY, live, limit = 128 * 1024 * 1024 }: PlanOptions = {},
): number[] | undefined {
  if (Number.isFinite(horizon)) {
    const alive = blobs.findIndex(({ expires }) => expires === undefined || expires > horizon)
    const dead = alive < 0 ? blobs.length : alive
    if (dead > 0) return ids(blobs, 0, dead)
  }
  const total = blobs.reduce((sum, { bytes }) => sum + bytes, 0)
  if (live !== undefined && blobs.length > 1 && total > 2 * live + limit) return ids(blobs, 0, blobs.length)
  const most = live === undefined ? Number.POSITIVE_INFINITY : limit
  for (let end = blobs.length; end >= FEWEST; end--) {
    let sum = 0
    let heaviest = 0
    for (let start = end - 1; start >= 0; start--) {
      const { bytes } = blobs[start]!
      if (sum + bytes > most) break
      sum += bytes
      heaviest = Math.max(heaviest, bytes)
      if (end - start < FEWEST || sum < GROWTH * heaviest) continue
      while (start > 0 && blobs[start - 1]!.bytes <= heaviest && sum + blobs[start - 1]!.bytes <= most)
        sum += blobs[--start]!.bytes
      return ids(blobs, start, end)
    }
  }
  return undefined
}

/** A live entry of stored state, for listings. An expiring set keeps no keys, only their fingerprints. */
export interface DescribedEntry {
  readonly key?: string
  readonly fingerprint?: string
  readonly value?: unknown
  readonly time: number
}

/**
 * The entries that the blobs of a slot hold together, in no order; those of timers in the order of their registration.
 *
 * @param blobs all of the slot, oldest first
 * @param watermark what is dead at it is left out
 */
export function* describe(
  format: string,
  blobs: readonly Uint8Array[],
  { watermark = Number.NEGATIVE_INFINITY }: { watermark?: number } = {},
): Generator<DescribedEntry> {
  const merged = mergeBlobs(format, blobs, { oldest: true, horizon: watermark })
  if (merged === undefined) return
  const view = viewOf(merged)
  const bytes = Buffer.from(merged.buffer, merged.byteOffset, merged.byteLength)
  for (let at = HEADER_BYTES; at < merged.byteLength; ) {
    if (format === EXPIRING_SET_FORMAT) {
      yield { fingerprint: bytes.toString('hex', at, at + 16), time: view.getFloat64(at + 16, true) }
      at += EXPIRING_SET_ENTRY_BYTES
    } else if (format === TABLE_FORMAT) {
      const keyWord = view.getInt32(at + 16, true)
      const key = readText(bytes, at + ENTRY_HEAD_BYTES, keyWord)
      const value: unknown = JSON.parse(
        readText(bytes, at + ENTRY_HEAD_BYTES + textBytes(keyWord), view.getInt32(at + 20, true)),
      )
      yield { key, value, time: view.getFloat64(at + 8, true) }
      at += entryBytes(view, at)
    } else {
      yield {
        key: readText(bytes, at + TIMER_HEAD_BYTES, view.getInt32(at, true)),
        time: view.getFloat64(at + 4, true),
      }
      at = timerEnd(view, at, merged.byteLength, format)
    }
  }
}

function ids(blobs: readonly BlobWeight[], start: number, end: number): number[] {
  return blobs.slice(start, end).map(({ id }) => id)
}

function unknownFormat(format: string): MillraceError {
  const [kind, version] = format.split('/')
  const known = [EXPIRING_SET_FORMAT, TABLE_FORMAT, TIMERS_FORMAT].find((name) => name.split('/')[0] === kind)
  if (known && Number(version) > Number(known.split('/')[1])) {
    return new MillraceError(
      'STATE_TOO_NEW',
      `a state blob is in the format ${format}, and this version of Millrace reads ${known}: start the version that wrote it, or a later one`,
    )
  }
  return damaged(format, 'no version of Millrace wrote this format')
}

/** A key that is added again is alive again at a later time, and comes later: loading takes the last. */
function mergeExpiringSets(blobs: readonly Uint8Array[], horizon: number): Uint8Array | undefined {
  let keep = 0
  let total = 0
  for (const bytes of blobs) {
    total += countExpiringSet(EXPIRING_SET_FORMAT, bytes)
    keep = Math.max(keep, readHeader(EXPIRING_SET_FORMAT, bytes).keep)
  }
  const ranks = new Int32Array(total)
  const from = new Uint32Array(total)
  const blobOf = new Uint32Array(total)
  let count = 0
  let oldest = Number.POSITIVE_INFINITY
  let newest = Number.NEGATIVE_INFINITY
  const views = blobs.map(viewOf)
  views.forEach((view, blob) => {
    for (let at = HEADER_BYTES; at < view.byteLength; at += EXPIRING_SET_ENTRY_BYTES) {
      const time = view.getFloat64(at + 16, true)
      if (time + keep <= horizon) continue
      ranks[count] = slotRank(view.getInt32(at, true), view.getInt32(at + 4, true))
      from[count] = at
      blobOf[count++] = blob
      if (time < oldest) oldest = time
      if (time > newest) newest = time
    }
  })
  if (count === 0) return undefined
  const merged = new Uint8Array(HEADER_BYTES + count * EXPIRING_SET_ENTRY_BYTES)
  const view = viewOf(merged)
  writeHeader(view, { count, keep, oldest, newest })
  let to = HEADER_BYTES
  for (const i of byRank(ranks, count)) {
    const source = views[blobOf[i]!]!
    const at = from[i]!
    for (let word = 0; word < EXPIRING_SET_ENTRY_BYTES; word += 4)
      view.setInt32(to + word, source.getInt32(at + word, true), true)
    to += EXPIRING_SET_ENTRY_BYTES
  }
  return merged
}

/**
 * The last entry of each key. One that is dead, or says that its key was deleted, still hides what older blobs hold of
 * the key, and so stays, without its value, unless there is none.
 */
function mergeTables(blobs: readonly Uint8Array[], isOldest: boolean, horizon: number): Uint8Array | undefined {
  const headers = blobs.map((bytes) => readHeader(TABLE_FORMAT, bytes))
  const keep = headers.reduce((most, header) => Math.max(most, header.keep), 0)
  const views = blobs.map(viewOf)
  const most = views.reduce((sum, view) => sum + Math.floor(view.byteLength / ENTRY_HEAD_BYTES), 0)
  const total = Math.min(
    most,
    headers.reduce((sum, header) => sum + header.count, 0),
  )
  const seen = createShards(4, () => false)
  seen.reserve(total)
  const ranks = new Int32Array(total)
  const from = new Uint32Array(total)
  const blobOf = new Uint32Array(total)
  let count = 0
  let length = HEADER_BYTES
  let oldest = Number.POSITIVE_INFINITY
  let newest = Number.NEGATIVE_INFINITY

  const gone = (view: DataView, at: number) =>
    (view.getInt32(at + 16, true) & DELETED) !== 0 || view.getFloat64(at + 8, true) + keep <= horizon

  /** Notes the entry's key; false when a later entry of it was seen. */
  const first = (blob: number, view: DataView, entry: number): boolean => {
    const f0 = view.getInt32(entry, true)
    const f1 = view.getInt32(entry + 4, true)
    const shard = seen.room(f1)
    const { words } = shard
    let at = (f0 & shard.mask) * 4
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      if (word === f0 && words[at + 1] === f1 && sameKey(view, entry, views[words[at + 2]!]!, words[at + 3]!))
        return false
      at += 4
      if (at === words.length) at = 0
    }
    words[at] = f0
    words[at + 1] = f1
    words[at + 2] = blob
    words[at + 3] = entry
    shard.used++
    return true
  }

  for (let blob = blobs.length - 1; blob >= 0; blob--) {
    const view = views[blob]!
    let left = headers[blob]!.count
    for (let at = HEADER_BYTES; at < view.byteLength; left--) {
      const entry = at
      at = entryEnd(view, at)
      if (left === 0) break
      if (!first(blob, view, entry)) continue
      const isGone = gone(view, entry)
      if (isGone && isOldest) continue
      ranks[count] = slotRank(view.getInt32(entry, true), view.getInt32(entry + 4, true))
      from[count] = entry
      blobOf[count++] = blob
      length += isGone ? ENTRY_HEAD_BYTES + keyBytes(view, entry) : at - entry
      const time = view.getFloat64(entry + 8, true)
      if (time < oldest) oldest = time
      if (time > newest) newest = time
    }
    if (left !== 0) throw damaged(TABLE_FORMAT, `its header says ${headers[blob]!.count} entries, and it has others`)
  }
  if (count === 0) return undefined
  const merged = new Uint8Array(length)
  const out = viewOf(merged)
  writeHeader(out, { count, keep, oldest, newest })
  let to = HEADER_BYTES
  for (const i of byRank(ranks, count)) {
    const view = views[blobOf[i]!]!
    const at = from[i]!
    const isGone = gone(view, at)
    const size = isGone ? ENTRY_HEAD_BYTES + keyBytes(view, at) : entryEnd(view, at) - at
    merged.set(blobs[blobOf[i]!]!.subarray(at, at + size), to)
    if (isGone) {
      out.setInt32(to + 16, view.getInt32(at + 16, true) | DELETED, true)
      out.setInt32(to + 20, 0, true)
    }
    to += size
  }
  return merged
}

function keyBytes(view: DataView, at: number): number {
  return textBytes(view.getInt32(at + 16, true) & ~DELETED)
}

function entryEnd(view: DataView, at: number): number {
  const end = at + ENTRY_HEAD_BYTES > view.byteLength ? Number.POSITIVE_INFINITY : at + entryBytes(view, at)
  if (end > view.byteLength) throw damaged(TABLE_FORMAT, 'an entry is longer than what is left')
  return end
}

/** The last that was said of each key and time; that a timer was removed is kept, unless no older blob can hold it. */
function mergeTimers(blobs: readonly Uint8Array[], isOldest: boolean): Uint8Array | undefined {
  const last = new Map<string, { bytes: Uint8Array; removed: boolean; order: number; time: number }>()
  for (const bytes of blobs) {
    const { count: entries } = readHeader(TIMERS_FORMAT, bytes)
    let left = entries
    const view = viewOf(bytes)
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let at = HEADER_BYTES; at < bytes.byteLength; left--) {
      const end = timerEnd(view, at, bytes.byteLength, TIMERS_FORMAT)
      const word = view.getInt32(at, true)
      const time = view.getFloat64(at + 4, true)
      const name = `${time}/${readText(buffer, at + TIMER_HEAD_BYTES, word & ~DELETED)}`
      last.set(name, {
        bytes: bytes.subarray(at, end),
        removed: (word & DELETED) !== 0,
        order: view.getFloat64(at + 12, true),
        time,
      })
      at = end
    }
    if (left !== 0) throw damaged(TIMERS_FORMAT, `its header says ${entries} entries, and it has others`)
  }
  const kept = [...last.values()].filter(({ removed }) => !removed || !isOldest).sort((a, b) => a.order - b.order)
  if (kept.length === 0) return undefined
  const merged = new Uint8Array(kept.reduce((sum, { bytes }) => sum + bytes.byteLength, HEADER_BYTES))
  let to = HEADER_BYTES
  let oldest = Number.POSITIVE_INFINITY
  let newest = Number.NEGATIVE_INFINITY
  for (const { bytes, time } of kept) {
    merged.set(bytes, to)
    to += bytes.byteLength
    oldest = Math.min(oldest, time)
    newest = Math.max(newest, time)
  }
  writeHeader(viewOf(merged), { count: kept.length, keep: 0, oldest, newest })
  return merged
}
