import { Amounts } from './amounts.ts'
import { damaged, HEADER_BYTES, readHeader, requireFormat, viewOf, writeHeader } from './blob.ts'
import { fingerprinter } from './fingerprint.ts'
import { createShards, type Shard } from './shards.ts'
import type { ExpiringSet, Journal, StateClock, StateStructure } from './state.ts'

export interface ExpiringSetOptions {
  /** Milliseconds that a key is remembered after its time. */
  within: number
  clock: StateClock
  journal: Journal
  /** The store's: fingerprints are keyed with it. */
  secret: Uint8Array
}

/** Blobs of expiring sets: a header, then entries of 24 bytes: the fingerprint, four i32, and the time, f64. */
export const EXPIRING_SET_FORMAT = 'expiring-set/1'
export const EXPIRING_SET_ENTRY_BYTES = 24

const WIDTH = 6
const NEVER = Number.NEGATIVE_INFINITY

/**
 * A set of keys that are forgotten when the watermark has passed `time + within` (engine rule 10). It keeps a 128-bit
 * keyed fingerprint and the time of each, outside the JavaScript heap, 28 to 57 bytes a key, and costs the same at ten
 * thousand and at ten million keys.
 *
 * Between `delta` and `sealed` nothing may be added. What is dead at a committed watermark is swept little by little,
 * when shards grow and at commits; a watermark that is taken back with an epoch that failed brings its keys back.
 */
export function createExpiringSet({ within, clock, journal, secret }: ExpiringSetOptions) {
  const fingerprint = fingerprinter(secret)
  /** What a failed epoch cannot take back: only what is dead at this watermark may be swept. */
  let settled = NEVER
  let swept = 0
  /** What was added since the last commit, as it will be stored, and the time that each had before. */
  let log = new Float64Array(3 * 64)
  let logWords = new Int32Array(log.buffer)
  let before = new Float64Array(64)
  let logged = 0

  const shards = createShards(WIDTH, (shard, at) => shard.floats[(at >> 1) + 2]! + within <= settled)

  /** The word at which the slot of a fingerprint is, or would be. */
  function find(shard: Shard, h0: number, h1: number, h2: number, h3: number): number {
    const { words } = shard
    const end = words.length
    let at = (h0 & shard.mask) * WIDTH
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      if (word === h0 && words[at + 1] === h1 && words[at + 2] === h2 && words[at + 3] === h3) return at
      at += WIDTH
      if (at === end) at = 0
    }
    return at
  }

  function put(shard: Shard, at: number, h0: number, h1: number, h2: number, h3: number, time: number): void {
    const { words } = shard
    words[at] = h0
    words[at + 1] = h1
    words[at + 2] = h2
    words[at + 3] = h3
    shard.floats[(at >> 1) + 2] = time
    shard.used++
  }

  function note(h0: number, h1: number, h2: number, h3: number, time: number, old: number): void {
    if (logged === before.length) grow()
    const at = logged * WIDTH
    logWords[at] = h0
    logWords[at + 1] = h1
    logWords[at + 2] = h2
    logWords[at + 3] = h3
    log[logged * 3 + 2] = time
    before[logged++] = old
    journal.note(structure)
  }

  function grow(): void {
    const larger = new Float64Array(log.length * 2)
    larger.set(log)
    log = larger
    logWords = new Int32Array(log.buffer)
    const olds = new Float64Array(before.length * 2)
    olds.set(before)
    before = olds
  }

  /**
   * Takes entries in as long as they belong to the shard. A key that was added again is alive again at a later time, so
   * that the order of the blobs does not matter.
   */
  function loadSome(entries: StoredEntries, reach: number, prefix: number): void {
    const { words, times } = entries
    let { at } = entries
    for (; at < words.length && (words[at + 1]! & reach) === prefix; at += WIDTH) {
      const h0 = words[at]!
      const h1 = words[at + 1]!
      const h2 = words[at + 2]!
      const h3 = words[at + 3]!
      const time = times[(at >> 1) + 2]!
      const shard = shards.room(h1)
      const slot = find(shard, h0, h1, h2, h3)
      if (shard.words[slot] === 0) put(shard, slot, h0, h1, h2, h3, time)
      else if (time > shard.floats[(slot >> 1) + 2]!) shard.floats[(slot >> 1) + 2] = time
    }
    entries.at = at
  }

  const amounts = new Amounts({
    memory: () => shards.bytes + log.byteLength + before.byteLength,
    size: () => shards.size(),
    live: () => shards.size() * EXPIRING_SET_ENTRY_BYTES,
  })
  const structure = Object.assign(amounts, {
    format: EXPIRING_SET_FORMAT,

    add(key: string, time: number): 'added' | 'present' | 'expired' {
      const { watermark } = clock
      if (time + within <= watermark) return 'expired'
      fingerprint.of(key)
      const { h1, h2, h3 } = fingerprint
      const h0 = fingerprint.h0 || 1
      let shard = shards.directory[h1 & shards.reach]!
      let at = find(shard, h0, h1, h2, h3)
      if (shard.words[at] !== 0) {
        const old = shard.floats[(at >> 1) + 2]!
        if (old + within > watermark) return 'present'
        if (old === NEVER) shard.gone--
        shard.floats[(at >> 1) + 2] = time
        note(h0, h1, h2, h3, time, old)
        return 'added'
      }
      const { words } = shard
      shard = shards.room(h1)
      if (shard.words !== words) at = find(shard, h0, h1, h2, h3)
      put(shard, at, h0, h1, h2, h3, time)
      note(h0, h1, h2, h3, time, NEVER)
      return 'added'
    },

    undo(): void {
      const at = --logged * WIDTH
      const h1 = logWords[at + 1]!
      const shard = shards.directory[h1 & shards.reach]!
      const slot = find(shard, logWords[at]!, h1, logWords[at + 2]!, logWords[at + 3]!)
      const old = before[logged]!
      shard.floats[(slot >> 1) + 2] = old
      if (old === NEVER) shard.gone++
    },

    delta(): Uint8Array | undefined {
      if (logged === 0) return undefined
      const bytes = new Uint8Array(HEADER_BYTES + logged * EXPIRING_SET_ENTRY_BYTES)
      let oldest = Number.POSITIVE_INFINITY
      let newest = NEVER
      for (let i = 0; i < logged; i++) {
        const time = log[i * 3 + 2]!
        if (time < oldest) oldest = time
        if (time > newest) newest = time
      }
      writeHeader(viewOf(bytes), { count: logged, keep: within, oldest, newest })
      bytes.set(new Uint8Array(log.buffer, 0, logged * EXPIRING_SET_ENTRY_BYTES), HEADER_BYTES)
      return bytes
    },

    sealed(): void {
      logged = 0
      if (Number.isFinite(clock.watermark) && clock.watermark > settled) settled = clock.watermark
      const shard = shards.directory[swept++ % shards.directory.length]!
      if (shard.used > 0) shards.sweep(shard)
    },

    load(blobs: readonly { readonly id: number; readonly format: string; readonly bytes: Uint8Array }[]): void {
      let total = 0
      for (const { format, bytes } of blobs) total += countExpiringSet(format, bytes)
      if (total === 0) return
      shards.reserve(total)
      const stored = blobs.map(({ bytes }) => storedEntries(bytes))
      // shard by shard, in the order of merged blobs, so that the shard stays in the processor's cache
      const { reach } = shards
      for (const prefix of shards.inRankOrder()) for (const entries of stored) loadSome(entries, reach, prefix)
      for (const entries of stored) loadSome(entries, 0, 0)
    },

    close(): void {},
  })
  return structure satisfies ExpiringSet & StateStructure & { readonly live: number; close(): void }
}

/** A blob's entries, of which those before the word `at` have been loaded. */
interface StoredEntries {
  readonly words: Int32Array
  readonly times: Float64Array
  at: number
}

function storedEntries(bytes: Uint8Array): StoredEntries {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % 8 === 0 ? bytes : Uint8Array.from(bytes)
  return {
    words: new Int32Array(buffer, byteOffset, byteLength / 4),
    times: new Float64Array(buffer, byteOffset, byteLength / 8),
    at: HEADER_BYTES / 4,
  }
}

/**
 * How many entries a blob has.
 *
 * @throws MillraceError STATE_DAMAGED, STATE_TOO_NEW
 */
export function countExpiringSet(format: string, bytes: Uint8Array): number {
  requireFormat(format, EXPIRING_SET_FORMAT)
  const { count } = readHeader(format, bytes)
  if (bytes.byteLength !== HEADER_BYTES + count * EXPIRING_SET_ENTRY_BYTES)
    throw damaged(format, `it has ${bytes.byteLength} bytes for ${count} entries`)
  return count
}
