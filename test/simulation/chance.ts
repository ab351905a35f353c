/** Seeded numbers: the same seed draws the same ones, everywhere. */
export interface Chance {
  /** From 0 up to, and not, 1. */
  next(): number
  /** A whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number
  yes(probability: number): boolean
  one<T>(of: readonly T[]): T
}

export function chance(seed: number): Chance {
  let a = (seed ^ 0x9e3779b9) | 0
  const next = () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  for (let i = 0; i < 8; i++) next()
  return {
    next,
    whole: (least, most) => least + Math.floor(next() * (most - least + 1)),
    yes: (probability) => next() < probability,
    one: (of) => of[Math.floor(next() * of.length)]!,
  }
}
