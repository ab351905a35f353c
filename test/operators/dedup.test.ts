import fc from 'fast-check'
import { expect, test } from 'vitest'
import { dedup } from '../../operators/dedup.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, parted, through } from '../support/through.ts'

operatorSuite('dedup', {
  make: (samples) => {
    const passed = samples.pipe(dedup({ by: (e) => checked(e).id, within: '40s' }))
    return { main: passed, late: passed.side('late') }
  },
  forgets: '40s',
  outside: () => dedup({ by: (e) => checked(e).id, within: '40s' }),
  fixture: 'dedup.json',
})

test('passes what a plain computation passes, whatever the cuts, and lays aside what cannot be judged', async () => {
  const WITHIN = 40_000
  await fc.assert(
    fc.asyncProperty(arbitraryDoings({ back: 90 }), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through(
        { doings: records },
        () => {
          const passed = doings('doings', '20s').pipe(dedup({ by: (e) => e.what, within: '40s' }))
          return { main: passed, late: passed.side('late') }
        },
        cuts,
      )
      // each partition has a watermark of its own
      const [passed, laid] = [parted(main, cuts.partitions), parted(late, cuts.partitions)]
      for (const [i, own] of parted(records, cuts.partitions).entries()) {
        const seen = new Map<string, number>()
        const wanted: Doing[] = []
        const tooLate: Doing[] = []
        let newest = Number.NEGATIVE_INFINITY
        for (const each of own) {
          newest = Math.max(newest, each.at)
          const watermark = newest - 20_000
          const key = `${each.who} ${each.what}`
          const before = seen.get(key)
          if (each.at + WITHIN <= watermark) tooLate.push(each)
          else if (before === undefined || before + WITHIN <= watermark) {
            seen.set(key, each.at)
            wanted.push(each)
          }
        }
        expect(passed[i]).toEqual(wanted)
        expect(laid[i]).toEqual(tooLate)
      }
    }),
    { numRuns: 80 },
  )
})
