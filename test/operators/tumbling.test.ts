import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { tumbling } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, START, through } from '../support/through.ts'

const suite = (name: string, more: object, forgets: '30001ms' | '60001ms', fixture?: string) =>
  operatorSuite(name, {
    make: (samples) => {
      const counted = samples.pipe(
        tumbling({
          size: '30s',
          aggregate: (a) => ({
            n: a.count((e) => checked(e).what === 'cart'),
            times: a.sum((e) => e.at % 1_000_000),
            first: a.collect((e) => e.id, 3),
            kinds: a.distinct((e) => e.what),
          }),
          ...more,
        }),
      )
      return { main: counted, late: counted.side('late') }
    },
    forgets,
    ...(fixture === undefined ? {} : { fixture }),
  })

suite('tumbling', {}, '30001ms', 'tumbling.json')
suite('tumbling with grace and early results', { grace: '30s', early: '7s' }, '60001ms')

const SIZE = 60_000
/** Every window over all records, computed plainly. */
function reference(records: readonly Doing[]) {
  const windows = Map.groupBy(records, ({ who, at }) => `${who} ${Math.floor(at / SIZE) * SIZE}`)
  return [...windows.values()].map((all) => {
    const worths = all.map(({ worth }) => worth).sort((a, b) => a - b)
    const sum = worths.reduce((total, worth) => total + worth, 0)
    const kinds = Map.groupBy(all, ({ what }) => what)
    const start = Math.floor(all[0]!.at / SIZE) * SIZE
    return {
      key: all[0]!.who,
      start,
      end: start + SIZE,
      n: all.length,
      worth: sum,
      mean: sum / all.length,
      least: worths[0],
      most: worths.at(-1),
      kinds: kinds.size,
      middle: worths[Math.ceil(worths.length / 2) - 1],
      most1: Math.max(...[...kinds.values()].map((list) => list.length)),
    }
  })
}

const order = (list: readonly { key: string; start: number }[]) =>
  [...list].sort((a, b) => a.start - b.start || (a.key < b.key ? -1 : 1))

const windows =
  (lateness: '1h' | '20s', more: { grace?: '1d'; early?: '10s' } = {}) =>
  () => {
    const made = doings('doings', lateness).pipe(
      tumbling({
        size: '1m',
        aggregate: (a) => ({
          n: a.count(),
          worth: a.sum((e) => e.worth),
          mean: a.mean((e) => e.worth),
          least: a.min((e) => e.worth),
          most: a.max((e) => e.worth),
          kinds: a.distinct((e) => e.what),
          middle: a.quantile((e) => e.worth, 0.5),
          top: a.top((e) => e.what, 1),
        }),
        ...more,
      }),
    )
    return { main: made, late: made.side('late') }
  }
const plain = ({ revision: _, closed: __, top, ...rest }: any) => ({ ...rest, most1: top[0].count })

describe('tumbling, beside a plain computation over everything', () => {
  test('gives each window once, whatever the order, the partitions and the cuts', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
        const { main, late } = await through({ doings: records }, windows('1h'), cuts)
        expect(late).toEqual([])
        expect(main.every(({ revision, closed }) => revision === 0 && closed)).toBe(true)
        expect(order(main.map(plain))).toEqual(order(reference(records)))
      }),
      { numRuns: 60 },
    )
  })

  test('ends with the same when late events correct it, and counts revisions without a hole', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings({ back: 200 }), arbitraryCuts, async (records, cuts) => {
        const { main, late } = await through({ doings: records }, windows('20s', { grace: '1d', early: '10s' }), cuts)
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

  test('loses no record: each is in a window or on the side', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings({ back: 200 }), arbitraryCuts, async (records, cuts) => {
        const { main, late } = await through({ doings: records }, windows('20s'), cuts)
        expect(main.reduce((sum, { n }) => sum + n, 0) + late.length).toBe(records.length)
        for (const { value, time, by } of late) {
          expect(records).toContainEqual(value)
          expect(time).toBe(value.at)
          expect(by).toBeGreaterThanOrEqual(0)
        }
      }),
      { numRuns: 40 },
    )
  })
})

test('an event at the very end of a window is in the next one', async () => {
  const minute = Math.ceil(START / SIZE) * SIZE
  const at = (ms: number): Doing => ({ who: 'ann', what: 'view', worth: 1, at: minute + ms })
  const { main } = await through({ doings: [at(0), at(59_999), at(60_000)] }, windows('1h'))
  expect(main.map(({ start, n }) => [start - minute, n])).toEqual([
    [0, 2],
    [60_000, 1],
  ])
})

test.each([
  [{ size: '0s' }, /tumbling "tumbling": size must be a positive duration/],
  [{ timeZone: 'Europe/Nowhere' }, /timeZone must be one such as 'Europe\/Berlin', got 'Europe\/Nowhere'/],
  [{ size: '7h', timeZone: 'Europe/Berlin' }, /must be whole days or divide a day/],
  [{ aggregate: () => ({}) }, /must give at least one aggregator/],
  [{ aggregate: (a: any) => ({ key: a.count() }) }, /must not give a field key/],
  [{ aggregate: () => ({ n: 5 }) }, /n must be an aggregator, such as a.count\(\), got 5/],
  [{ aggregate: (a: any) => ({ n: a.sum('worth') }) }, /sum must be given a function of the record, got 'worth'/],
  [
    { aggregate: (a: any) => ({ n: a.quantile((e: any) => e, 50) }) },
    /quantile must be given a share from 0 to 1, got 50/,
  ],
  [
    { aggregate: (a: any) => ({ n: a.top((e: any) => e, 0) }) },
    /top must be given a whole number from 1 to 100, got 0/,
  ],
])('an option that is wrong is named: %o', (wrong, message) => {
  expect(() => tumbling({ size: '1h', aggregate: (a: any) => ({ n: a.count() }), ...wrong } as any)).toThrow(message)
})
