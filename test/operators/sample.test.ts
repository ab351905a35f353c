import fc from 'fast-check'
import { expect, test } from 'vitest'
import { sample } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, through } from '../support/through.ts'

operatorSuite('sample', {
  make: (samples) => {
    const latest = samples.pipe(sample({ by: (e) => checked(e).what, every: '15s' }))
    return { main: latest, late: latest.side('late') }
  },
  forgets: '15001ms',
  fixture: 'sample.json',
})

test('gives the latest of each key and stretch', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
      const { main } = await through(
        { doings: records },
        () => ({ main: doings('doings', '1h').pipe(sample({ every: '1m' })) }),
        cuts,
      )
      const latest = new Map<string, Doing>()
      for (const each of records) {
        const place = `${each.who} ${Math.floor(each.at / 60_000)}`
        const before = latest.get(place)
        if (before === undefined || each.at >= before.at) latest.set(place, each)
      }
      const order = (list: readonly Doing[]) =>
        [...list].sort((a, b) => (a.who < b.who ? -1 : a.who > b.who ? 1 : a.at - b.at))
      expect(order(main)).toEqual(order([...latest.values()]))
    }),
    { numRuns: 60 },
  )
})
