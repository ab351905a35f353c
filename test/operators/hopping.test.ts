import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hopping } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, through } from '../support/through.ts'

operatorSuite('hopping', {
  make: (samples) => {
    const counted = samples.pipe(
      hopping({
        size: '20s',
        every: '10s',
        grace: '10s',
        early: '6s',
        aggregate: (a) => ({
          ids: a.collect((e) => checked(e).id, 5),
          mean: a.mean((e) => e.at % 1_000),
          own: a.fold(
            0,
            (n, e) => n + e.id.length,
            (x, y) => x + y,
          ),
        }),
      }),
    )
    return { main: counted, late: counted.side('late') }
  },
  forgets: '30001ms',
  fixture: 'hopping.json',
})

const SIZE = 120_000
const EVERY = 30_000

function reference(records: readonly Doing[]) {
  const windows = new Map<string, { key: string; start: number; n: number; worth: number; kinds: Set<string> }>()
  for (const { who, what, worth, at } of records) {
    for (let start = Math.floor(at / EVERY) * EVERY; start > at - SIZE; start -= EVERY) {
      const key = `${who} ${start}`
      const window = windows.get(key) ?? { key: who, start, n: 0, worth: 0, kinds: new Set() }
      windows.set(key, { ...window, n: window.n + 1, worth: window.worth + worth, kinds: window.kinds.add(what) })
    }
  }
  return [...windows.values()].map(({ kinds, ...rest }) => ({ ...rest, end: rest.start + SIZE, kinds: kinds.size }))
}

const order = (list: readonly { key: string; start: number }[]) =>
  [...list].sort((a, b) => a.start - b.start || (a.key < b.key ? -1 : 1))
const windows =
  (lateness: '1h' | '20s', more: { grace?: '1d'; early?: '15s' } = {}) =>
  () => {
    const made = doings('doings', lateness).pipe(
      hopping({
        size: '2m',
        every: '30s',
        aggregate: (a) => ({ n: a.count(), worth: a.sum((e) => e.worth), kinds: a.distinct((e) => e.what) }),
        ...more,
      }),
    )
    return { main: made, late: made.side('late') }
  }
const plain = ({ revision: _, closed: __, ...rest }: any) => rest

test('gives what a plain computation over everything gives', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through({ doings: records }, windows('1h'), cuts)
      expect(late).toEqual([])
      expect(order(main.map(plain))).toEqual(order(reference(records)))
    }),
    { numRuns: 60 },
  )
})

test('ends with the same when late events correct it', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings({ back: 300 }), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through({ doings: records }, windows('20s', { grace: '1d', early: '15s' }), cuts)
      expect(late).toEqual([])
      const byWindow = Map.groupBy(main, ({ key, start }) => `${key} ${start}`)
      for (const results of byWindow.values())
        expect(results.map(({ revision }) => revision)).toEqual([...results.keys()])
      const last = [...byWindow.values()].map((results) => results.at(-1))
      expect(last.every(({ closed }) => closed)).toBe(true)
      expect(order(last.map(plain))).toEqual(order(reference(records)))
    }),
    { numRuns: 60 },
  )
})

test('a size that is no multiple of every is refused', () => {
  expect(() => hopping({ size: '1h', every: '7m', aggregate: (a) => ({ n: a.count() }) })).toThrow(
    /size must be a multiple of every, at most 1,000 times, got '1h' and '7m'/,
  )
})
