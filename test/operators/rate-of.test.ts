import fc from 'fast-check'
import { expect, test } from 'vitest'
import { rateOf } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, doings, through } from '../support/through.ts'

operatorSuite('rateOf', {
  make: (samples) => ({ main: samples.pipe(rateOf({ by: (e) => checked(e).what, over: '30s' })) }),
  forgets: '30500ms',
  fixture: 'rate-of.json',
})

test('counts what there was of a key in the time before a record, to a sixtieth of it', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
      const { main } = await through(
        { doings: records },
        () => ({ main: doings('doings', '1h').pipe(rateOf({ over: '2m', per: '1h' })) }),
        {
          ...cuts,
          partitions: 1,
        },
      )
      expect(main).toHaveLength(records.length)
      for (const [i, { value, count, rate }] of main.entries()) {
        const before = records.slice(0, i + 1).filter(({ who }) => who === value.who)
        const newest = Math.max(...before.map(({ at }) => at))
        const own = before.filter(({ at }) => Math.floor(at / 2_000) <= Math.floor(value.at / 2_000))
        expect(rate).toBe(count * 30)
        if (newest - value.at > 118_000) continue
        // what is older than all that is kept beside the newest record is not known any more
        const known = before.filter(({ at }) => at > newest - 118_000 && at > value.at - 118_000 && at <= value.at)
        expect(count).toBeGreaterThanOrEqual(known.length)
        expect(count).toBeLessThanOrEqual(own.filter(({ at }) => at > value.at - 124_000).length)
      }
    }),
    { numRuns: 60 },
  )
})
