import fc from 'fast-check'
import { expect, test } from 'vitest'
import { session } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, START, through } from '../support/through.ts'

operatorSuite('session', {
  make: (samples) => {
    const counted = samples.pipe(
      session({ gap: '12s', aggregate: (a) => ({ ids: a.collect((e) => checked(e).id, 9), n: a.count() }) }),
    )
    return { main: counted, late: counted.side('late') }
  },
  forgets: '12001ms',
  fixture: 'session.json',
})
operatorSuite('session with grace, early results and a longest time', {
  make: (samples) => {
    const counted = samples.pipe(
      session({
        gap: '12s',
        grace: '20s',
        early: '5s',
        atMost: '30s',
        aggregate: (a) => ({ ids: a.collect((e) => checked(e).id, 9), n: a.count() }),
      }),
    )
    return { main: counted, late: counted.side('late') }
  },
  forgets: '32001ms',
})

const GAP = 20_000

/** Sessions over everything: sorted, and cut where there is silence. */
function reference(records: readonly Doing[]) {
  return [...Map.groupBy(records, ({ who }) => who)].flatMap(([key, own]) => {
    const sorted = [...own].sort((a, b) => a.at - b.at)
    const made: { key: string; start: number; end: number; n: number; worth: number }[] = []
    for (const { at, worth } of sorted) {
      const last = made.at(-1)
      if (last && at - last.end < GAP) Object.assign(last, { end: at, n: last.n + 1, worth: last.worth + worth })
      else made.push({ key, start: at, end: at, n: 1, worth })
    }
    return made
  })
}

const order = (list: readonly { key: string; start: number }[]) =>
  [...list].sort((a, b) => a.start - b.start || (a.key < b.key ? -1 : 1))
const sessions =
  (lateness: '1h' | '20s' | '0s', more: { grace?: '1d' | '30s'; atMost?: '50s' } = {}) =>
  () => {
    const made = doings('doings', lateness).pipe(
      session({ gap: '20s', aggregate: (a) => ({ n: a.count(), worth: a.sum((e) => e.worth) }), ...more }),
    )
    return { main: made, late: made.side('late') }
  }
const plain = ({ revision: _, closed: __, ...rest }: any) => rest

test('gives what a plain computation over everything gives', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through({ doings: records }, sessions('1h'), cuts)
      expect(late).toEqual([])
      expect(main.every(({ revision, closed }) => revision === 0 && closed)).toBe(true)
      expect(order(main.map(plain))).toEqual(order(reference(records)))
    }),
    { numRuns: 60 },
  )
})

test('every session of the plain computation is given in the end, however late its records came within grace', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings({ back: 300 }), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through({ doings: records }, sessions('20s', { grace: '1d' }), cuts)
      expect(late).toEqual([])
      const given = new Set(main.map((each) => JSON.stringify(plain(each))))
      for (const wanted of reference(records)) {
        const { key, start, end, n, worth } = wanted
        expect(given).toContain(JSON.stringify({ key, start, end, n, worth }))
      }
    }),
    { numRuns: 60 },
  )
})

test('loses no record: each is in a session or on the side', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings({ back: 200 }), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through({ doings: records }, sessions('20s'), cuts)
      expect(main.reduce((sum, { n }) => sum + n, 0) + late.length).toBe(records.length)
    }),
    { numRuns: 40 },
  )
})

const view = (seconds: number): Doing => ({ who: 'ann', what: 'view', worth: 1, at: START + seconds * 1_000 })
const spans = (main: any[]) => main.map(({ start, end, n }) => [(start - START) / 1_000, (end - START) / 1_000, n])

test('a silence of exactly the gap ends a session, and one of a millisecond less does not', async () => {
  const { main } = await through({ doings: [view(0), view(19.999), view(39.999)] }, sessions('1h'))
  expect(spans(main)).toEqual([
    [0, 19.999, 2],
    [39.999, 39.999, 1],
  ])
})

test('a late record joins two sessions that were two, and the next revision says so', async () => {
  const { main } = await through({ doings: [view(0), view(30), view(100), view(15)] }, sessions('0s', { grace: '1d' }))
  expect(main.map(({ revision, n }) => [revision, n])).toEqual([
    [0, 1],
    [0, 1],
    [1, 3],
    [0, 1],
  ])
})

test('a session is no longer than it may be', async () => {
  const { main } = await through({ doings: [0, 15, 30, 45, 60, 75].map(view) }, sessions('0s', { atMost: '50s' }))
  expect(spans(main)).toEqual([
    [0, 45, 4],
    [60, 75, 2],
  ])
})
