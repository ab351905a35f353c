import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { absence } from '../../operators/absence.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, through } from '../support/through.ts'

const left = (again: 'restart' | 'ignore') =>
  absence({
    by: (e: Sample) => e.who,
    after: (e) => checked(e).what === 'cart',
    unless: (e) => checked(e).what === 'buy',
    within: '30s',
    again,
  })

for (const again of ['restart', 'ignore'] as const) {
  operatorSuite(`absence, again: '${again}'`, {
    make: (samples) => {
      const main = samples.pipe(left(again))
      return { main, late: main.side('late') }
    },
    forgets: '100s',
    outside: () => left(again),
    fixture: `absence-${again}.json`,
  })
}

describe.each(['restart', 'ignore'] as const)(
  'absence, again: %s, beside a plain computation over everything',
  (again) => {
    const WITHIN = 45_000

    function reference(records: readonly Doing[]) {
      return [...Map.groupBy(records, ({ who }) => who)].flatMap(([key, own]) => {
        const starts = [...new Map(own.filter(({ what }) => what === 'cart').map((e) => [e.at, e])).values()].sort(
          (a, b) => a.at - b.at,
        )
        const stops = own.filter(({ what }) => what === 'buy').map((e) => e.at)
        const stopped = (from: number, to: number) => stops.some((stop) => stop >= from && stop <= to)
        let ran: number | undefined
        return starts.flatMap((value) => {
          const began = value.at
          const over = began + WITHIN
          if (again === 'ignore') {
            if (ran !== undefined && began <= ran + WITHIN && !stopped(ran, began)) return []
            ran = began
          } else if (starts.some(({ at }) => at > began && at <= over)) return []
          return stopped(began, over) ? [] : [{ key, value, at: over }]
        })
      })
    }
    // of several carts of one time it may be any: which came last, or too late, is the order of arrival's affair
    const order = (list: readonly { key: string; value: Doing; at: number }[]) =>
      list
        .map(({ key, value: { worth: _, ...value }, at }) => ({ key, value, at }))
        .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.at - b.at))

    test('tells of each wait that ended in silence, whatever the order, the lateness and the cuts', async () => {
      await fc.assert(
        fc.asyncProperty(
          arbitraryDoings(),
          arbitraryCuts,
          fc.constantFrom('1m', '1h'),
          async (records, cuts, lateness) => {
            const { main, late } = await through(
              { doings: records },
              () => {
                const left = doings('doings', lateness as '1m').pipe(
                  absence({ after: (e) => e.what === 'cart', unless: (e) => e.what === 'buy', within: '45s', again }),
                )
                return { main: left, late: left.side('late') }
              },
              cuts,
            )
            // only what is said again can come later than the lateness here
            for (const each of late)
              expect(records.filter((other) => other.at === each.at && other.who === each.who).length).toBeGreaterThan(
                1,
              )
            expect(order(main)).toEqual(order(reference(records)))
          },
        ),
        { numRuns: 150 },
      )
    })
  },
)
