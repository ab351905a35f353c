import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { sequence } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, START, through } from '../support/through.ts'

operatorSuite('sequence', {
  make: (samples) => {
    const found = samples.pipe(
      sequence({ steps: { a: (e) => checked(e).what === 'cart', b: (e) => e.what === 'view' }, within: '40s' }),
    )
    return { main: found, late: found.side('late') }
  },
  forgets: '40001ms',
  fixture: 'sequence.json',
})
operatorSuite('sequence with unless', {
  make: (samples) => {
    const found = samples.pipe(
      sequence({
        steps: { a: (e) => checked(e).what === 'cart', b: (e) => e.what === 'cart' },
        unless: (e) => e.what === 'buy',
        within: '40s',
      }),
    )
    return { main: found, late: found.side('late') }
  },
  forgets: '40001ms',
})

const WITHIN = 120_000

/** Matches over everything, from the first record of each key on. */
function reference(records: readonly Doing[], steps: readonly string[], unless?: string) {
  return [...Map.groupBy(records, ({ who }) => who)].flatMap(([key, own]) => {
    const sorted = [...own].sort((a, b) => a.at - b.at)
    const found: { key: string; at: number; values: Doing[] }[] = []
    for (let first = 0; first < sorted.length; ) {
      const end = sorted[first]!.at + WITHIN
      const places: number[] = []
      for (let i = first; i < sorted.length && sorted[i]!.at <= end && places.length < steps.length; i++) {
        if (sorted[i]!.what === steps[places.length] && (places.length > 0 || i === first)) places.push(i)
      }
      const stopped = sorted.some((each, i) => i > first && each.at <= end && each.what === unless)
      if (places.length === steps.length && !stopped) {
        const last = places.at(-1)!
        found.push({ key, at: unless ? end : sorted[last]!.at, values: places.map((place) => sorted[place]!) })
        first = last + 1
      } else first++
    }
    return found
  })
}

const order = (list: readonly { key: string; at: number }[]) =>
  [...list].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.at - b.at))

describe('sequence, beside a plain computation over everything', () => {
  test('finds one after another, in whatever order they arrive', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
        const { main, late } = await through(
          { doings: records },
          () => {
            const found = doings('doings', '1h').pipe(
              sequence({
                steps: { a: (e) => e.what === 'view', b: (e) => e.what === 'cart', c: (e) => e.what === 'view' },
                within: '2m',
              }),
            )
            return { main: found, late: found.side('late') }
          },
          cuts,
        )
        expect(late).toEqual([])
        const given = main.map(({ key, at, a, b, c }) => ({ key, at, values: [a, b, c] }))
        expect(order(given)).toEqual(order(reference(records, ['view', 'cart', 'view'])))
      }),
      { numRuns: 80 },
    )
  })

  test('and not a third', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings(), arbitraryCuts, async (records, cuts) => {
        const { main } = await through(
          { doings: records },
          () => ({
            main: doings('doings', '1h').pipe(
              sequence({
                steps: { a: (e) => e.what === 'view', b: (e) => e.what === 'cart' },
                unless: (e) => e.what === 'buy',
                within: '2m',
              }),
            ),
          }),
          cuts,
        )
        const given = main.map(({ key, at, a, b }) => ({ key, at, values: [a, b] }))
        expect(order(given)).toEqual(order(reference(records, ['view', 'cart'], 'buy')))
      }),
      { numRuns: 80 },
    )
  })
})

const at = (what: string, seconds: number): Doing => ({ who: 'ann', what, worth: 1, at: START + seconds * 1_000 })

test('the last step may come exactly within, and not a millisecond later', async () => {
  const found = async (seconds: number) =>
    (
      await through({ doings: [at('view', 0), at('buy', seconds)] }, () => ({
        main: doings('doings', '1m').pipe(
          sequence({ steps: { seen: (e) => e.what === 'view', bought: (e) => e.what === 'buy' }, within: '30m' }),
        ),
      }))
    ).main.length
  expect(await found(1_800)).toBe(1)
  expect(await found(1_800.001)).toBe(0)
})

test.each([
  [{ steps: {} }, /steps must name from 1 to 30 steps, got 0/],
  [{ steps: { a: 'view' } }, /a must be a function of the record, got 'view'/],
  [{ steps: { key: () => true } }, /no step may be called key/],
  [{ within: 'soon' }, /within must be a positive duration/],
])('an option that is wrong is named: %o', (wrong, message) => {
  expect(() => sequence({ steps: { a: () => true }, within: '1m', ...wrong } as never)).toThrow(message)
})
