import type { Stream } from '../core/stream.ts'
import {
  absence,
  dedup,
  filter,
  flatMap,
  hopping,
  join,
  joinAsOf,
  joinLatest,
  keyBy,
  latest,
  map,
  mapAsync,
  patch,
  rateOf,
  reconcile,
  repartition,
  route,
  sample,
  scan,
  sequence,
  series,
  session,
  sessionize,
  throttle,
  tumbling,
} from '../operators/index.ts'
import type { NumberRecord } from '../test/support/number-source.ts'

/** A computation as an author writes it, and as a plain loop over the same records, which gives how many values it had. */
interface Case {
  flow(numbers: Stream<NumberRecord>): Stream<unknown>
  loop(): (record: NumberRecord) => number
}

/** One of so many keys, in no order. */
export const keyOf = (n: number, keys: number): string => `k${(Math.imul(n, 0x9e3779b1) >>> 0) % keys}`

const MINUTE = 60_000

/** Sums and counts by a place, for loops of windows: the window before is given when the key's next one begins. */
function sums(length: number) {
  const windows = new Map<string, { start: number; n: number; sum: number }>()
  return ({ key, n, at }: NumberRecord): number => {
    const start = at - (at % length)
    const window = windows.get(key)
    if (window?.start === start) {
      window.n++
      window.sum += n
      return 0
    }
    windows.set(key, { start, n: 1, sum: n })
    return window ? 1 : 0
  }
}

export const CASES: Readonly<Record<string, Case>> = {
  tumbling: {
    flow: (numbers) =>
      numbers.pipe(tumbling({ size: '1m', aggregate: (a) => ({ n: a.count(), sum: a.sum((e) => e.n) }) })),
    loop: () => sums(MINUTE),
  },
  hopping: {
    flow: (numbers) =>
      numbers.pipe(hopping({ size: '2m', every: '1m', aggregate: (a) => ({ n: a.count(), sum: a.sum((e) => e.n) }) })),
    loop: () => {
      const [even, odd] = [sums(MINUTE), sums(2 * MINUTE)]
      return (record) => even(record) + odd(record)
    },
  },
  session: {
    flow: (numbers) =>
      numbers.pipe(session({ gap: '15s', aggregate: (a) => ({ n: a.count(), sum: a.sum((e) => e.n) }) })),
    loop: () => {
      const open = new Map<string, { last: number; n: number }>()
      return ({ key, at }) => {
        const own = open.get(key)
        if (own && at - own.last < 15_000) {
          own.last = at
          own.n++
          return 0
        }
        open.set(key, { last: at, n: 1 })
        return own ? 1 : 0
      }
    },
  },
  sessionize: {
    flow: (numbers) => numbers.pipe(sessionize({ gap: '15s' })),
    loop: () => {
      const open = new Map<string, { began: number; last: number; n: number }>()
      return ({ key, at }) => {
        const own = open.get(key)
        if (own && at - own.last < 15_000) {
          own.last = at
          own.n++
        } else open.set(key, { began: at, last: at, n: 1 })
        return 1
      }
    },
  },
  rateOf: {
    flow: (numbers) => numbers.pipe(rateOf({ over: '1m' })),
    loop: () => {
      const counts = new Map<string, number[]>()
      return ({ key, at }) => {
        const list = (counts.get(key) ?? []).filter((time) => time > at - MINUTE)
        list.push(at)
        counts.set(key, list)
        return 1
      }
    },
  },
  map: {
    flow: (numbers) => numbers.pipe(map((e) => ({ n: e.n, twice: e.n * 2 }))),
    loop: () => (e) => ({ n: e.n, twice: e.n * 2 }).twice < 0 ? 0 : 1,
  },
  filter: {
    flow: (numbers) => numbers.pipe(filter((e) => e.n % 2 === 0)),
    loop: () => (e) => (e.n % 2 === 0 ? 1 : 0),
  },
  flatMap: {
    flow: (numbers) => numbers.pipe(flatMap((e) => [e.n, -e.n])),
    loop: () => (e) => [e.n, -e.n].length,
  },
  mapAsync: {
    flow: (numbers) => numbers.pipe(mapAsync(async (e) => e.n, { concurrency: 64 })),
    loop: () => () => 1,
  },
  dedup: {
    flow: (numbers) => numbers.pipe(dedup({ within: '1m' })),
    loop: () => {
      const seen = new Map<string, number>()
      return ({ key, at }) => {
        const before = seen.get(key)
        if (before !== undefined && at - before <= MINUTE) return 0
        seen.set(key, at)
        return 1
      }
    },
  },
  scan: {
    flow: (numbers) =>
      numbers.pipe(scan({ seed: { n: 0, last: 0 }, step: (s, e) => ({ n: s.n + 1, last: e.n }), ttl: '1d' })),
    loop: () => {
      const states = new Map<string, { n: number; last: number }>()
      return ({ key, n }) => {
        states.set(key, { n: (states.get(key)?.n ?? 0) + 1, last: n })
        return 1
      }
    },
  },
  absence: {
    flow: (numbers) =>
      numbers.pipe(absence({ after: (e) => e.n % 3 === 0, unless: (e) => e.n % 3 === 1, within: '1m' })),
    loop: () => {
      const waits = new Map<string, number>()
      return ({ key, n, at }) => {
        const began = waits.get(key)
        const over = began !== undefined && at - began > MINUTE
        if (over || n % 3 === 1) waits.delete(key)
        if (n % 3 === 0) waits.set(key, at)
        return over ? 1 : 0
      }
    },
  },
  keyBy: {
    flow: (numbers) => numbers.pipe(keyBy((e) => e.n % 1_000)),
    loop: () => (e) => (`${e.n % 1_000}`.length > 0 ? 1 : 0),
  },
  repartition: {
    flow: (numbers) => numbers.pipe(repartition((e) => e.n % 1_000)),
    loop: () => (e) => (`${e.n % 1_000}`.length > 0 ? 1 : 0),
  },
  route: {
    flow: (numbers) => numbers.pipe(route({ even: (e) => e.n % 2 === 0 })),
    loop: () => (e) => ({ from: e.n % 2 === 0 ? 'even' : 'rest', value: e }).from.length > 0 ? 1 : 0,
  },
  patch: {
    flow: (numbers) => numbers.pipe(patch((e) => ({ n: e.n }))),
    loop: () => (e) => ({ set: { n: e.n } }).set.n < 0 ? 0 : 1,
  },
  latest: { flow: (numbers) => numbers.pipe(latest({ ttl: '1d' })), loop: () => newest() },
  throttle: {
    flow: (numbers) => numbers.pipe(throttle({ per: '1m' })),
    loop: () => {
      const passed = new Map<string, number>()
      return ({ key, at }) => {
        const before = passed.get(key)
        if (before !== undefined && at - before < MINUTE) return 0
        passed.set(key, at)
        return 1
      }
    },
  },
  sample: {
    flow: (numbers) => numbers.pipe(sample({ every: '1m' })),
    loop: () => sums(MINUTE),
  },
  sequence: {
    flow: (numbers) =>
      numbers.pipe(sequence({ steps: { a: (e) => e.n % 3 === 0, b: (e) => e.n % 3 === 1 }, within: '30s' })),
    loop: () => {
      const begun = new Map<string, number>()
      return ({ key, n, at }) => {
        const began = begun.get(key)
        if (n % 3 === 0 && began === undefined) begun.set(key, at)
        if (n % 3 !== 1 || began === undefined) return 0
        begun.delete(key)
        return at - began <= 30_000 ? 1 : 0
      }
    },
  },
  series: {
    flow: (numbers) =>
      numbers.pipe(
        series({ after: (e) => e.n % 10 === 0, steps: { a: '10s', b: '20s' }, unless: (e) => e.n % 10 === 1 }),
      ),
    loop: () => {
      const begun = new Map<string, number>()
      return ({ key, n, at }) => {
        if (n % 10 === 0) begun.set(key, at)
        if (n % 10 === 1) begun.delete(key)
        return begun.size < 0 ? 1 : 0
      }
    },
  },
  reconcile: {
    flow: (numbers) =>
      numbers.pipe(
        map((e) => ({
          from: e.n % 2 === 0 ? ('crm' as const) : ('web' as const),
          value: { set: { n: e.n, seen: e.at } },
        })),
        reconcile({ trust: ['crm', 'web'], fields: { seen: 'max' } }),
      ),
    loop: () => {
      const people = new Map<string, { n: number; seen: number }>()
      return ({ key, n, at }) => {
        people.set(key, { n, seen: Math.max(people.get(key)?.seen ?? 0, at) })
        return 1
      }
    },
  },
  join: {
    flow: (numbers) =>
      numbers.pipe(
        filter((e) => e.n % 2 === 0),
        join(numbers.pipe(filter((e) => e.n % 2 === 1)), { after: '20s' }),
      ),
    loop: () => {
      const lefts = new Map<string, number[]>()
      return ({ key, n, at }) => {
        const own = (lefts.get(key) ?? []).filter((time) => time >= at - 20_000)
        if (n % 2 === 1) return own.length
        lefts.set(key, [...own, at])
        return 0
      }
    },
  },
  joinLatest: {
    flow: (numbers) =>
      numbers.pipe(
        filter((e) => e.n % 2 === 0),
        joinLatest(numbers.pipe(filter((e) => e.n % 2 === 1)), { ttl: '1d', kind: 'left' }),
      ),
    loop: () => newest(),
  },
  joinAsOf: {
    flow: (numbers) =>
      numbers.pipe(
        filter((e) => e.n % 2 === 0),
        joinAsOf(numbers.pipe(filter((e) => e.n % 2 === 1)), { history: '1m', kind: 'left' }),
      ),
    loop: () => newest(),
  },
}

/** The latest number of a key. */
function newest() {
  const known = new Map<string, number>()
  return ({ key, n }: NumberRecord): number => {
    known.set(key, n)
    return 1
  }
}
