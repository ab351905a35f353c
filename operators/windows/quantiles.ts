import { LogCollapsingLowestDenseDDSketch } from '@datadog/sketches-js'

/** How far a quantile may be off, as a share of its value. */
const ERROR = 0.01
/** Values up to here are kept as they are. */
const EXACT = 32
/** Buckets a sign; beyond them, the ones nearest to zero are counted as one. 2,048 span 17 powers of ten. */
const MOST = 2_048

/** Counts by the logarithm of a value, from `first` on. */
type Buckets = readonly [first: number, ...counts: number[]]

/**
 * A DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch", 2019) by Datadog's library, as
 * JSON: a histogram with buckets that grow by 2 %, so that every quantile is within 1 % of a value that was there. Few
 * values are kept as they are.
 */
export type Sketch =
  | { readonly few: readonly number[] }
  | { readonly zeros: number; readonly positive: Buckets | null; readonly negative: Buckets | null }

type Counted = LogCollapsingLowestDenseDDSketch
type Store = Counted['store']

export const EMPTY: Sketch = { few: [] }

export function withValue(sketch: Sketch, value: number): Sketch {
  if ('few' in sketch && sketch.few.length < EXACT) return { few: [...sketch.few, value] }
  const counted = opened(sketch)
  counted.accept(value)
  return closed(counted)
}

export function merged(a: Sketch, b: Sketch): Sketch {
  if ('few' in b) return b.few.reduce(withValue, a)
  const counted = opened(a)
  counted.zeroCount += b.zeros
  // one by one: the library's own merge loses the bucket of 1 where that is the last one
  add(counted.store, b.positive)
  add(counted.negativeStore, b.negative)
  return closed(counted)
}

/** The value that the share `q` of all values is not above; null of none. */
export function quantile(sketch: Sketch, q: number): number | null {
  if ('few' in sketch) {
    if (sketch.few.length === 0) return null
    const sorted = [...sketch.few].sort((x, y) => x - y)
    return sorted[rank(q, sorted.length)]!
  }
  const { negativeStore, store, zeroCount, mapping } = opened(sketch)
  const place = rank(q, negativeStore.count + zeroCount + store.count)
  if (place < negativeStore.count) return -mapping.value(negativeStore.keyAtRank(negativeStore.count - 1 - place))
  if (place < negativeStore.count + zeroCount) return 0
  return mapping.value(store.keyAtRank(place - negativeStore.count - zeroCount))
}

const rank = (q: number, count: number): number => Math.min(count - 1, Math.max(0, Math.ceil(q * count) - 1))

function opened(sketch: Sketch): Counted {
  const counted = new LogCollapsingLowestDenseDDSketch({ relativeAccuracy: ERROR, binLimit: MOST })
  if ('few' in sketch) {
    for (const value of sketch.few) counted.accept(value)
  } else {
    counted.zeroCount = sketch.zeros
    fill(counted.store, sketch.positive)
    fill(counted.negativeStore, sketch.negative)
  }
  return counted
}

function closed({ zeroCount, store, negativeStore }: Counted): Sketch {
  return { zeros: zeroCount, positive: bucketsOf(store), negative: bucketsOf(negativeStore) }
}

function fill(store: Store, buckets: Buckets | null): void {
  if (buckets === null) return
  const [first, ...counts] = buckets
  store.bins = counts
  store.offset = first
  store.minKey = first
  store.maxKey = first + counts.length - 1
  store.count = counts.reduce((sum, count) => sum + count, 0)
}

function add(store: Store, buckets: Buckets | null): void {
  if (buckets === null) return
  const [first, ...counts] = buckets
  for (const [i, count] of counts.entries()) if (count > 0) store.add(first + i, count)
}

function bucketsOf({ bins, offset, minKey, maxKey, count }: Store): Buckets | null {
  return count === 0 ? null : [minKey, ...bins.slice(minKey - offset, maxKey - offset + 1)]
}
