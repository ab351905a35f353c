/** Different keys up to here are counted one by one. */
const EXACT = 128
/** 4,096 registers: a standard error of 1.6 %. */
const PRECISION = 12
const REGISTERS = 1 << PRECISION
/** Bits of a hash behind those that choose the register. */
const BITS = 53 - PRECISION
/** A register is one character: '0' for nothing, and on from there; none of them needs an escape in JSON. */
const ZERO = 48

/** Exactly which keys there were, or of many a HyperLogLog: the registers as text. */
export type Distinct = readonly string[] | string

export const NONE: Distinct = []

export function withKey(distinct: Distinct, key: string): Distinct {
  if (typeof distinct === 'string') return registered(distinct, key)
  if (distinct.includes(key)) return distinct
  if (distinct.length < EXACT) return [...distinct, key]
  return withKey(registersOf(distinct), key)
}

export function merged(a: Distinct, b: Distinct): Distinct {
  if (typeof b !== 'string') return b.reduce(withKey, a)
  if (typeof a !== 'string') return a.reduce(withKey, b)
  let text = ''
  for (let i = 0; i < REGISTERS; i++) text += a.charCodeAt(i) > b.charCodeAt(i) ? a[i] : b[i]
  return text
}

/** How many there were: exactly up to 128, else as Ertl estimates it ("New cardinality estimation algorithms", 2017). */
export function count(distinct: Distinct): number {
  if (typeof distinct !== 'string') return distinct.length
  const counts = new Array<number>(BITS + 2).fill(0)
  for (let i = 0; i < REGISTERS; i++) counts[distinct.charCodeAt(i) - ZERO]!++
  let z = REGISTERS * tau(1 - counts[BITS + 1]! / REGISTERS)
  for (let k = BITS; k >= 1; k--) z = 0.5 * (z + counts[k]!)
  z += REGISTERS * sigma(counts[0]! / REGISTERS)
  return Math.round(REGISTERS ** 2 / (2 * Math.LN2) / z)
}

const registersOf = (keys: readonly string[]): string =>
  keys.reduce(registered, String.fromCharCode(ZERO).repeat(REGISTERS))

function registered(registers: string, key: string): string {
  const hash = hash53(key)
  const register = hash % REGISTERS
  let rest = Math.floor(hash / REGISTERS)
  let rank = 1
  while (rank <= BITS && rest % 2 === 0) {
    rest = Math.floor(rest / 2)
    rank++
  }
  if (registers.charCodeAt(register) - ZERO >= rank) return registers
  return registers.slice(0, register) + String.fromCharCode(ZERO + rank) + registers.slice(register + 1)
}

/** 53 bits of two mixed 32-bit hashes; the same on every machine, as registers are stored. */
function hash53(text: string): number {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 0x9e3779b1)
    b = Math.imul(b ^ code, 0x5f356495)
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35)
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35)
  return 0x1_0000_0000 * (b & 0x1f_ffff) + (a >>> 0)
}

function sigma(given: number): number {
  if (given === 1) return Number.POSITIVE_INFINITY
  let x = given
  let z = x
  let y = 1
  for (let before = Number.NaN; z !== before; ) {
    x *= x
    before = z
    z += x * y
    y += y
  }
  return z
}

function tau(given: number): number {
  if (given === 0 || given === 1) return 0
  let x = given
  let y = 1
  let z = 1 - x
  for (let before = Number.NaN; z !== before; ) {
    x = Math.sqrt(x)
    before = z
    y *= 0.5
    z -= (1 - x) ** 2 * y
  }
  return z / 3
}
