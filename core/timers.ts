import { Amounts } from './amounts.ts'
import { damaged, HEADER_BYTES, readHeader, requireFormat, viewOf, writeHeader } from './blob.ts'
import { DELETED, readText, textBytes, writeText } from './entry.ts'
import { fingerprinter } from './fingerprint.ts'
import { createShards, type Shard } from './shards.ts'
import type { Journal, StateStructure, Timer, Timers } from './state.ts'

export interface TimersOptions {
  journal: Journal
  /** The store's: the index by key is keyed with it. */
  secret: Uint8Array
}

/**
 * Blobs of timers: a header, then what was done, in its order. An entry: the key's length (u32, as in `entry.ts`; bit 30:
 * the timer was removed), time (f64), registration (f64), key.
 */
export const TIMERS_FORMAT = 'timers/1'
export const TIMER_HEAD_BYTES = 20

/** Words of an index slot: a fingerprint of key and time (two), timer plus one (0: the slot is free again). */
const WIDTH = 3
const NEW = 1
const GONE = 2

/**
 * Timers in the order in which they fall due: time, then key by its code points, then registration (engine rule 6). One
 * per key and time. Setting, cancelling and taking cost the logarithm of their number.
 *
 * Between `delta` and `sealed` nothing may be set, cancelled or taken.
 */
export function createTimers({ journal, secret }: TimersOptions) {
  const fingerprint = fingerprinter(secret)
  const index = createShards(WIDTH, ({ words }, at) => words[at + 2] === 0)
  /** The timers: one number each, whose fields are in these. */
  const keys: string[] = []
  const free: number[] = []
  let times = new Float64Array(64)
  let orders = new Float64Array(64)
  /** What tells most keys apart without looking at them: `keyRank`. */
  let ranks = new Float64Array(64)
  let places = new Int32Array(64)
  let flags = new Uint8Array(64)
  /** A binary heap of them. */
  let heap = new Int32Array(64)
  let count = 0
  let next = 0
  /** What was done since the last commit: a timer plus one that was set, or its negative, that was removed. */
  const log: number[] = []
  let head: Timer | undefined
  let headOf = -1

  const scratch = new Float64Array(1)
  const scratchWords = new Int32Array(scratch.buffer)
  let g0 = 0
  let g1 = 0
  let shard: Shard = index.directory[0]!

  /** The word of the timer's index slot, or of where it would be; `shard` is then its shard. */
  function find(key: string, time: number): number {
    fingerprint.of(key)
    scratch[0] = time
    let mixed = Math.imul(scratchWords[0]! ^ Math.imul(scratchWords[1]!, 0x85ebca6b), 0x9e3779b1)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35)
    mixed ^= mixed >>> 13
    g0 = (fingerprint.h0 ^ mixed) | 0 || 1
    g1 = fingerprint.h1 ^ Math.imul(mixed, 0x27d4eb2f)
    shard = index.directory[g1 & index.reach]!
    const { words } = shard
    const end = words.length
    let at = (g0 & shard.mask) * WIDTH
    for (let word = words[at]!; word !== 0; word = words[at]!) {
      const timer = words[at + 2]! - 1
      if (word === g0 && words[at + 1] === g1 && timer >= 0 && times[timer] === time && keys[timer] === key) return at
      at += WIDTH
      if (at === end) at = 0
    }
    return at
  }

  function add(key: string, time: number, order: number): number {
    const timer = free.pop() ?? keys.length
    if (timer === times.length) grow()
    keys[timer] = key
    times[timer] = time
    orders[timer] = order
    ranks[timer] = keyRank(key)
    flags[timer] = 0
    return timer
  }

  function grow(): void {
    const size = times.length * 2
    times = copied(times, new Float64Array(size))
    orders = copied(orders, new Float64Array(size))
    ranks = copied(ranks, new Float64Array(size))
    places = copied(places, new Int32Array(size))
    flags = copied(flags, new Uint8Array(size))
    heap = copied(heap, new Int32Array(size))
  }

  /** Puts a timer, whose key and time `find` has just looked for in vain, into the index. */
  function enter(timer: number): void {
    shard = index.room(g1)
    const { words } = shard
    const end = words.length
    let at = (g0 & shard.mask) * WIDTH
    while (words[at] !== 0 && words[at + 2] !== 0) {
      at += WIDTH
      if (at === end) at = 0
    }
    if (words[at] === 0) shard.used++
    else shard.gone--
    words[at] = g0
    words[at + 1] = g1
    words[at + 2] = timer + 1
  }

  function link(timer: number): void {
    find(keys[timer]!, times[timer]!)
    enter(timer)
    push(timer)
  }

  function unlink(timer: number): void {
    const at = find(keys[timer]!, times[timer]!)
    shard.words[at + 2] = 0
    shard.gone++
    pull(timer)
  }

  function push(timer: number): void {
    heap[count] = timer
    places[timer] = count
    rise(count++)
  }

  function pull(timer: number): void {
    const place = places[timer]!
    const last = heap[--count]!
    if (last === timer) return
    heap[place] = last
    places[last] = place
    rise(place)
    sink(places[last]!)
  }

  function before(a: number, b: number): boolean {
    const difference = times[a]! - times[b]!
    if (difference !== 0) return difference < 0
    const byRank = ranks[a]! - ranks[b]!
    if (byRank !== 0) return byRank < 0
    const byKey = compareKeys(keys[a]!, keys[b]!)
    return byKey === 0 ? orders[a]! < orders[b]! : byKey < 0
  }

  function rise(from: number): void {
    const timer = heap[from]!
    let place = from
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!before(timer, heap[parent]!)) break
      heap[place] = heap[parent]!
      places[heap[place]!] = place
      place = parent
    }
    heap[place] = timer
    places[timer] = place
  }

  function sink(from: number): void {
    const timer = heap[from]!
    let place = from
    for (let child = 2 * place + 1; child < count; child = 2 * place + 1) {
      if (child + 1 < count && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, timer)) break
      heap[place] = heap[child]!
      places[heap[place]!] = place
      place = child
    }
    heap[place] = timer
    places[timer] = place
  }

  function remove(timer: number): void {
    unlink(timer)
    flags[timer]! |= GONE
    log.push(-(timer + 1))
    journal.note(structure)
  }

  function apply(view: DataView, bytes: Buffer, format: string): void {
    const { count: entries } = readHeader(format, bytes)
    let left = entries
    for (let at = HEADER_BYTES; at < bytes.byteLength; left--) {
      const end = timerEnd(view, at, bytes.byteLength, format)
      const word = view.getInt32(at, true)
      const time = view.getFloat64(at + 4, true)
      const order = view.getFloat64(at + 12, true)
      const key = readText(bytes, at + TIMER_HEAD_BYTES, word & ~DELETED)
      at = end
      const slot = find(key, time)
      const known = shard.words[slot] === 0 ? -1 : shard.words[slot + 2]! - 1
      if ((word & DELETED) !== 0) {
        if (known < 0) continue
        shard.words[slot + 2] = 0
        shard.gone++
        keys[known] = ''
        flags[known] = GONE
        free.push(known)
      } else if (known >= 0) orders[known] = order
      else enter(add(key, time, order))
      if (order >= next) next = order + 1
    }
    if (left !== 0) throw damaged(format, `its header says ${entries} entries, and it has others`)
  }

  const amounts = new Amounts({
    memory: () => index.bytes + times.length * 33 + keys.length * 48,
    size: () => count,
    live: () => count * 48,
  })
  const structure = Object.assign(amounts, {
    format: TIMERS_FORMAT,

    set(key: string, time: number): void {
      const at = find(key, time)
      if (shard.words[at] !== 0) return
      const timer = add(key, time, next++)
      enter(timer)
      push(timer)
      flags[timer] = NEW
      log.push(timer + 1)
      journal.note(structure)
    },

    cancel(key: string, time: number): void {
      const at = find(key, time)
      if (shard.words[at] !== 0) remove(shard.words[at + 2]! - 1)
    },

    /** The timer that falls due first. */
    peek(): Timer | undefined {
      if (count === 0) return undefined
      const timer = heap[0]!
      if (timer !== headOf) {
        headOf = timer
        head = { time: times[timer]!, key: keys[timer]!, order: orders[timer]! }
      }
      return head
    },

    /** Removes the timer that falls due first, and gives it. There must be one. */
    take(): Timer {
      const timer = structure.peek()!
      remove(heap[0]!)
      return timer
    },

    undo(): void {
      const done = log.pop()!
      if (done > 0) {
        const timer = done - 1
        unlink(timer)
        keys[timer] = ''
        free.push(timer)
        headOf = -1
        next--
      } else {
        const timer = -done - 1
        flags[timer]! &= ~GONE
        link(timer)
      }
    },

    delta(): Uint8Array | undefined {
      let length = HEADER_BYTES
      let entries = 0
      let oldest = Number.POSITIVE_INFINITY
      let newest = Number.NEGATIVE_INFINITY
      const told = log.filter((done) => (flags[Math.abs(done) - 1]! & (done > 0 ? GONE : NEW)) === 0)
      for (const done of told) length += TIMER_HEAD_BYTES + 2 * keys[Math.abs(done) - 1]!.length
      if (told.length === 0) return undefined
      const bytes = Buffer.alloc(length)
      const view = viewOf(bytes)
      let at = HEADER_BYTES
      for (const done of told) {
        const timer = Math.abs(done) - 1
        const time = times[timer]!
        const word = writeText(bytes, at + TIMER_HEAD_BYTES, keys[timer]!)
        view.setInt32(at, done > 0 ? word : word | DELETED, true)
        view.setFloat64(at + 4, time, true)
        view.setFloat64(at + 12, orders[timer]!, true)
        at += TIMER_HEAD_BYTES + textBytes(word)
        entries++
        if (time < oldest) oldest = time
        if (time > newest) newest = time
      }
      writeHeader(view, { count: entries, keep: 0, oldest, newest })
      return bytes.subarray(0, at)
    },

    sealed(): void {
      for (const done of log) {
        const timer = Math.abs(done) - 1
        if ((flags[timer]! & GONE) === 0) flags[timer] = 0
        else if (done < 0) {
          keys[timer] = ''
          free.push(timer)
        }
      }
      log.length = 0
      headOf = -1
    },

    load(blobs: readonly { readonly id: number; readonly format: string; readonly bytes: Uint8Array }[]): void {
      let total = 0
      for (const { format, bytes } of blobs) {
        requireFormat(format, TIMERS_FORMAT)
        const { count: entries } = readHeader(format, bytes)
        if (entries * TIMER_HEAD_BYTES > bytes.byteLength)
          throw damaged(format, `it has ${bytes.byteLength} bytes for ${entries} entries`)
        total += entries
      }
      if (total > 0) index.reserve(total)
      for (const { format, bytes } of blobs) {
        apply(viewOf(bytes), Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), format)
      }
      for (let timer = 0; timer < keys.length; timer++) {
        if ((flags[timer]! & GONE) !== 0) continue
        places[timer] = count
        heap[count++] = timer
      }
      for (let place = (count >> 1) - 1; place >= 0; place--) sink(place)
    },

    close(): void {},
  })
  return structure satisfies Timers &
    StateStructure & { peek(): Timer | undefined; take(): Timer; readonly live: number; close(): void }
}

/**
 * Where a stored timer ends.
 *
 * @throws MillraceError STATE_DAMAGED when it goes past the end
 */
export function timerEnd(view: DataView, at: number, end: number, format: string): number {
  if (at + TIMER_HEAD_BYTES > end) throw damaged(format, 'its last entry is cut off')
  const stop = at + TIMER_HEAD_BYTES + textBytes(view.getInt32(at, true) & ~DELETED)
  if (stop > end) throw damaged(format, 'an entry is longer than what is left')
  return stop
}

/** Units of a key that are in its rank. */
const RANKED = 7

/** A number that orders keys as `compareKeys` does, as far as it goes: of equals, their beginnings are alike. */
export function keyRank(key: string): number {
  let rank = 0
  for (let i = 0; i < RANKED; i++) {
    const unit = i < key.length ? key.charCodeAt(i) : 0
    // from the first unit of more than seven bits on, keys are not told apart
    if (unit >= 0x7f) return (rank + 1) * 128 ** (RANKED - i) - 1
    rank = rank * 128 + unit
  }
  return rank
}

/** Orders keys by their code points, which is the order of their UTF-8 bytes. */
export function compareKeys(a: string, b: string): number {
  if (a === b) return 0
  const shorter = Math.min(a.length, b.length)
  for (let i = 0; i < shorter; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x === y) continue
    if (x >= 0xd800 && y >= 0xd800) return fromSurrogate(x) - fromSurrogate(y)
    return x - y
  }
  return a.length - b.length
}

/** A unit's rank among those from 0xd800 up: surrogates, which stand for code points above 0xffff, come last. */
function fromSurrogate(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit + 0x2000
}

function copied<A extends Float64Array | Int32Array | Uint8Array>(from: A, to: A): A {
  to.set(from)
  return to
}
