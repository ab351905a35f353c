/** A piece of an open-addressing table: slots of a fixed number of words, the first word never 0 in a used one. */
export interface Shard {
  words: Int32Array
  /** The same memory as 64-bit numbers. */
  floats: Float64Array
  /** Slots minus one; slots are a power of two. */
  mask: number
  used: number
  /** Of the used ones, those that the owner has taken back; they go when the shard is rebuilt. */
  gone: number
  /** How many low bits of the second word all its slots share, and which. */
  depth: number
  prefix: number
}

/** Hash slots that grow a shard at a time. */
export interface Shards {
  /** Where a slot with this second word is, or belongs: `directory[h1 & reach]`. */
  directory: Shard[]
  reach: number
  /** Makes sure that the shard for `h1` can take one more slot; look-ups before this call must be made again. */
  room(h1: number): Shard
  /** Gives slots that are dead back when they are many; call it for one shard now and then. */
  sweep(shard: Shard): void
  /** Makes room for this many slots in one go, before any is used. */
  reserve(slots: number): void
  /** The prefixes of all shards, right after `reserve`, in the order of {@link slotRank}. */
  inRankOrder(): number[]
  /** Every shard once. */
  all(): Shard[]
  /** Slots that are used and not gone. */
  size(): number
  /** Bytes held. */
  readonly bytes: number
}

const SMALLEST = 16
/** A shard of this many slots is split rather than doubled: 0.3 ms. */
const LARGEST = 16_384
/** Expected probes of a search in vain at this load: 22 neighbouring slots; half as full, 2. */
const LOAD = 0.85

/**
 * Slots in shards of bounded size: extendible hashing (Fagin et al., 1979) over open addressing with linear probing. A
 * full shard is doubled up to a bound, then split in two, so that no growth costs more than a fraction of a
 * millisecond, however many slots there are.
 *
 * A slot's first word places it within its shard, the second word chooses the shard. Finding and filling slots is the
 * owner's: it knows what the words mean.
 *
 * @param width words a slot
 * @param dead whether the slot at this word may be forgotten; asked when a shard is rebuilt
 */
export function createShards(width: number, dead: (shard: Shard, at: number) => boolean): Shards {
  const first = make(SMALLEST, 0, 0)
  const shards = {
    directory: [first],
    reach: 0,
    bytes: first.words.byteLength,
    room,
    sweep,
    reserve,
    inRankOrder,
    all,
    size: () => all().reduce((sum, { used, gone }) => sum + used - gone, 0),
  }

  function make(slots: number, depth: number, prefix: number): Shard {
    const floats = new Float64Array((slots * width) / 2)
    return { words: new Int32Array(floats.buffer), floats, mask: slots - 1, used: 0, gone: 0, depth, prefix }
  }

  function room(h1: number): Shard {
    for (;;) {
      const shard = shards.directory[h1 & shards.reach]!
      if (shard.used < (shard.mask + 1) * LOAD) return shard
      const live = living(shard)
      if (live < shard.used * 0.8) rebuild(shard, slotsFor(live))
      else if (shard.mask + 1 < LARGEST) rebuild(shard, (shard.mask + 1) * 2)
      else split(shard)
    }
  }

  function sweep(shard: Shard): void {
    if (shard.mask + 1 === SMALLEST) return
    const live = living(shard)
    if (live < shard.used / 2) rebuild(shard, slotsFor(live))
  }

  function living(shard: Shard): number {
    const { words } = shard
    let live = 0
    for (let at = 0; at < words.length; at += width) if (words[at] !== 0 && !dead(shard, at)) live++
    return live
  }

  function rebuild(shard: Shard, slots: number): void {
    const { words } = shard
    const made = make(slots, 0, 0)
    shards.bytes += made.words.byteLength - words.byteLength
    for (let at = 0; at < words.length; at += width) if (words[at] !== 0 && !dead(shard, at)) place(made, words, at)
    shard.words = made.words
    shard.floats = made.floats
    shard.mask = made.mask
    shard.used = made.used
    shard.gone = 0
  }

  function place(to: Shard, words: Int32Array, at: number): void {
    const target = to.words
    const end = target.length
    let free = (words[at]! & to.mask) * width
    while (target[free] !== 0) {
      free += width
      if (free === end) free = 0
    }
    for (let i = 0; i < width; i++) target[free + i] = words[at + i]!
    to.used++
  }

  function split(shard: Shard): void {
    const bit = 1 << shard.depth
    const low = make(LARGEST, shard.depth + 1, shard.prefix)
    const high = make(LARGEST, shard.depth + 1, shard.prefix | bit)
    const { words } = shard
    for (let at = 0; at < words.length; at += width) {
      if (words[at] !== 0 && !dead(shard, at)) place((words[at + 1]! & bit) === 0 ? low : high, words, at)
    }
    shards.bytes += low.words.byteLength
    if (bit > shards.reach) {
      shards.directory = shards.directory.concat(shards.directory)
      shards.reach = shards.directory.length - 1
    }
    const { directory } = shards
    for (let i = shard.prefix; i < directory.length; i += bit) directory[i] = (i & bit) === 0 ? low : high
  }

  function reserve(slots: number): void {
    let depth = 0
    while ((slots * 1.05) / 2 ** depth > LARGEST * LOAD) depth++
    const each = depth === 0 ? slotsFor(slots) : LARGEST
    shards.directory = Array.from({ length: 2 ** depth }, (_, prefix) => make(each, depth, prefix))
    shards.reach = shards.directory.length - 1
    shards.bytes = shards.directory.length * each * width * 4
  }

  function inRankOrder(): number[] {
    return shards.directory.map(({ prefix }) => prefix).sort((a, b) => slotRank(0, a) - slotRank(0, b))
  }

  function all(): Shard[] {
    return shards.directory.filter((shard, i) => shard.prefix === i)
  }

  return shards
}

function slotsFor(live: number): number {
  let slots = SMALLEST
  while (slots * LOAD < live * 1.25 + 1) slots *= 2
  return Math.min(slots, LARGEST)
}

/** Bits of the second word that choose shards in the order of {@link slotRank}, and of the first that place within one. */
const SHARD_BITS = 12
const PLACE_BITS = 14
const REVERSED = Int32Array.from({ length: 1 << SHARD_BITS }, (_, bits) => {
  let turned = 0
  for (let bit = 0; bit < SHARD_BITS; bit++) turned |= ((bits >> bit) & 1) << (SHARD_BITS - 1 - bit)
  return turned << PLACE_BITS
})

/**
 * Where a slot with these words comes in the order in which slots are best stored: those of one shard together, however
 * many shards there are, and by their places within it. What is stored so fills shards again from one end to the other.
 */
export function slotRank(h0: number, h1: number): number {
  return REVERSED[h1 & (REVERSED.length - 1)]! | (h0 & ((1 << PLACE_BITS) - 1))
}

/** So many are put in order sooner by comparing them than by counting all ranks. */
const FEW = 128

/** The numbers 0 to count - 1 by their ranks; those of the same rank as they were. */
export function byRank(ranks: Int32Array, count: number): Uint32Array {
  if (count < FEW)
    return Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => ranks[a]! - ranks[b]! || a - b)
  const half = (SHARD_BITS + PLACE_BITS) / 2
  let from = new Uint32Array(count)
  for (let i = 0; i < count; i++) from[i] = i
  for (const shift of [0, half]) {
    const next = new Uint32Array((1 << half) + 1)
    for (let i = 0; i < count; i++) next[((ranks[i]! >> shift) & ((1 << half) - 1)) + 1]!++
    for (let i = 1; i < next.length; i++) next[i]! += next[i - 1]!
    const to = new Uint32Array(count)
    for (let i = 0; i < count; i++) to[next[(ranks[from[i]!]! >> shift) & ((1 << half) - 1)]!++] = from[i]!
    from = to
  }
  return from
}
