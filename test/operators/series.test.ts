import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { series } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, START, through } from '../support/through.ts'

describe.each(['restart', 'ignore'] as const)('series, again: %s', (again) => {
  operatorSuite('it', {
    make: (samples) => {
      const steps = samples.pipe(
        series({
          after: (e) => checked(e).what === 'cart',
          steps: { first: '5s', second: '20s' },
          unless: (e) => e.what === 'buy',
          again,
        }),
      )
      return { main: steps, late: steps.side('late') }
    },
    forgets: '40001ms',
    fixture: `series-${again}.json`,
  })

  test('gives what a plain computation over everything gives', async () => {
    const WAITS = { hello: 0, tip: 30_000, offer: 90_000 }
    const reference = (records: readonly Doing[]) =>
      [...Map.groupBy(records, ({ who }) => who)].flatMap(([key, own]) => {
        const starts = [...new Map(own.filter(({ what }) => what === 'cart').map((e) => [e.at, e])).values()].sort(
          (a, b) => a.at - b.at,
        )
        const stops = own.filter(({ what }) => what === 'buy').map((e) => e.at)
        const stopped = (from: number, to: number) => stops.some((stop) => stop >= from && stop <= to)
        const ran: number[] = []
        return starts.flatMap((value) => {
          const began = value.at
          if (again === 'ignore') {
            if (ran.some((run) => began <= run + 90_000 && !stopped(run, began))) return []
            ran.push(began)
          }
          return Object.entries(WAITS).flatMap(([step, wait]) => {
            const due = began + wait
            const anew = again === 'restart' && starts.some((other) => other.at > began && other.at <= due)
            return anew || stopped(began, due) ? [] : [{ key, step, value, at: due }]
          })
        })
      })
    const order = (list: readonly { key: string; at: number; step: string }[]) =>
      [...list].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.at - b.at || (a.step < b.step ? -1 : 1)))
    await fc.assert(
      fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
        const { main, late } = await through(
          { doings: records },
          () => {
            const steps = doings('doings', '1h').pipe(
              series({
                after: (e) => e.what === 'cart',
                steps: { hello: '0s', tip: '30s', offer: '90s' },
                unless: (e) => e.what === 'buy',
                again,
              }),
            )
            return { main: steps, late: steps.side('late') }
          },
          cuts,
        )
        expect(late).toEqual([])
        expect(order(main)).toEqual(order(reference(records)))
      }),
      { numRuns: 80 },
    )
  })
})

test('each step comes at its time, and a purchase stops what is left', async () => {
  const at = (what: string, minutes: number): Doing => ({ who: 'ann', what, worth: 1, at: START + minutes * 60_000 })
  const { main } = await through({ doings: [at('signup', 0), at('buy', 4_320)] }, () => ({
    main: doings('doings', '1m').pipe(
      series({
        after: (e) => e.what === 'signup',
        steps: { hello: '0s', tip: '2d', offer: '7d' },
        unless: (e) => e.what === 'buy',
      }),
    ),
  }))
  expect(main.map(({ step, at }) => [step, (at - START) / 86_400_000])).toEqual([
    ['hello', 0],
    ['tip', 2],
  ])
})
