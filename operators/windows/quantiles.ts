/** How far a quantile may be off, as a share of its value. */
const ERROR = 0.01
const GAMMA = (1 + ERROR) / (1 - ERROR)
const PER_LOG = 1 / Math.log(GAMMA)
/** Values up to here are kept as they are. */
const EXACT = 32
/** Buckets a sign; beyond them, the ones nearest to zero are counted as one. 2,048 span 17 powers of ten. */
const MOST = 2_048

/** Counts by the logarithm of a value, from `first` on. */
type Buckets = readonly [first: number, ...counts: number[]]

/**
 * A DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch", 2019): a histogram with buckets
 * that grow by 2 %, so that every quantile is within 1 % of a value that was there. Few values are kept as they are.
 */
export type Sketch =
  | { readonly few: readonly number[] }
  | { readonly zeros: number; readonly positive: Buckets | null; readonly negative: Buckets | null }

export const EMPTY: Sketch = { few: [] }

export function withValue(sketch: Sketch, value: number): Sketch {
  if ('few' in sketch) {
    if (sketch.few.length < EXACT) return { few: [...sketch.few, value] }
    return withValue(spread(sketch.few), value)
  }
  const { zeros, positive, negative } = sketch
  if (value === 0) return { zeros: zeros + 1, positive, negative }
  const index = Math.ceil(Math.log(Math.abs(value)) * PER_LOG)
  return value > 0
    ? { zeros, positive: counted(positive, index, 1), negative }
    : { zeros, positive, negative: counted(negative, index, 1) }
}

export function merged(a: Sketch, b: Sketch): Sketch {
  if ('few' in b) return b.few.reduce(withValue, a)
  if ('few' in a) return a.few.reduce(withValue, b)
  return {
    zeros: a.zeros + b.zeros,
    positive: together(a.positive, b.positive),
    negative: together(a.negative, b.negative),
  }
}

/** The value that the share `q` of all values is not above; null of none. */
export function quantile(sketch: Sketch, q: number): number | null {
  if ('few' in sketch) {
    if (sketch.few.length === 0) return null
    const sorted = [...sketch.few].sort((x, y) => x - y)
    return sorted[rank(q, sorted.length)]!
  }
  const { zeros, positive, negative } = sketch
  const below = total(negative)
  let left = rank(q, below + zeros + total(positive))
  if (left < below) return -at(negative!, below - 1 - left)
  left -= below
  if (left < zeros) return 0
  return at(positive!, left - zeros)
}

const rank = (q: number, count: number): number => Math.min(count - 1, Math.max(0, Math.ceil(q * count) - 1))

const spread = (few: readonly number[]): Sketch =>
  few.reduce<Sketch>(withValue, { zeros: 0, positive: null, negative: null })

function counted(buckets: Buckets | null, index: number, by: number): Buckets {
  if (buckets === null) return [index, by]
  const [first, ...counts] = buckets
  const last = first + counts.length - 1
  if (index > last) {
    for (let i = last + 1; i < index; i++) counts.push(0)
    counts.push(by)
    return narrowed(first, counts)
  }
  if (index < first) {
    // too small to tell apart from the smallest there is room for
    const from = Math.max(index, last - MOST + 1)
    if (from < first) counts.unshift(...new Array<number>(first - from).fill(0))
    counts[0]! += by
    return [Math.min(from, first), ...counts]
  }
  counts[index - first]! += by
  return [first, ...counts]
}

function narrowed(first: number, counts: number[]): Buckets {
  const over = counts.length - MOST
  if (over <= 0) return [first, ...counts]
  const low = counts.splice(0, over).reduce((sum, count) => sum + count, 0)
  counts[0]! += low
  return [first + over, ...counts]
}

function together(a: Buckets | null, b: Buckets | null): Buckets | null {
  if (a === null || b === null) return a ?? b
  const [first, ...counts] = b
  return counts.reduce<Buckets>((sum, count, i) => (count === 0 ? sum : counted(sum, first + i, count)), a)
}

const total = (buckets: Buckets | null): number => (buckets ?? [0]).slice(1).reduce((sum, count) => sum + count, 0)

/** The middle of the bucket that holds the value at a place, from the smallest on. */
function at([first, ...counts]: Buckets, place: number): number {
  let index = 0
  for (let left = place; index < counts.length - 1 && left >= counts[index]!; index++) left -= counts[index]!
  return (2 * GAMMA ** (first + index)) / (GAMMA + 1)
}
