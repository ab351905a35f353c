import fc from 'fast-check'
import { expect, test } from 'vitest'
import { throttle } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, START, through } from '../support/through.ts'

operatorSuite('throttle', {
  make: (samples) => {
    const passed = samples.pipe(throttle({ by: (e) => checked(e).what, per: '20s', atMost: 2 }))
    return { main: passed, throttled: passed.side('throttled') }
  },
  forgets: '20s',
  fixture: 'throttle.json',
})

test('no stretch of its time has more than it may, and nothing is kept back that would have had room', async () => {
  await fc.assert(
    fc.asyncProperty(
      arbitraryDoings(),
      arbitraryCuts,
      fc.integer({ min: 1, max: 3 }),
      async (records, cuts, atMost) => {
        const { main, throttled } = await through(
          { doings: records },
          () => {
            const passed = doings('doings', '1h').pipe(throttle({ per: '1m', atMost }))
            return { main: passed, throttled: passed.side('throttled') }
          },
          { ...cuts, partitions: 1 },
        )
        expect(main.length + throttled.length).toBe(records.length)
        const wanted: Doing[] = []
        for (const each of records) {
          const own = [...wanted.filter(({ who }) => who === each.who), each].map((e) => e.at).sort((a, b) => a - b)
          const fits = own.every((_, i) => i < atMost || own[i]! - own[i - atMost]! >= 60_000)
          if (fits) wanted.push(each)
        }
        expect(main).toEqual(wanted)
      },
    ),
    { numRuns: 80 },
  )
})

test('the time begins anew exactly when it is over', async () => {
  const at = (seconds: number): Doing => ({ who: 'ann', what: 'x', worth: 1, at: START + seconds * 1_000 })
  const { main } = await through({ doings: [at(0), at(59.999), at(60), at(61)] }, () => ({
    main: doings('doings', '1m').pipe(throttle({ per: '1m' })),
  }))
  expect(main.map((e) => (e.at - START) / 1_000)).toEqual([0, 60])
})
