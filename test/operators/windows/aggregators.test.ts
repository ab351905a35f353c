import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Aggregator, aggregators } from '../../../operators/windows/aggregators.ts'

const a = aggregators<number>('it')
const run = <R>(aggregator: Aggregator<number, R>, values: readonly number[]) =>
  values.reduce<unknown>((state, value) => stored(aggregator.add(state, value)), aggregator.empty)
/** As it comes back from a disk. */
const stored = (state: unknown) => JSON.parse(JSON.stringify(state))
const of = <R>(aggregator: Aggregator<number, R>, values: readonly number[]) =>
  aggregator.result(run(aggregator, values))

describe.each([
  ['count', a.count((n) => n > 0)],
  ['sum', a.sum((n) => n)],
  ['mean', a.mean((n) => n)],
  ['min', a.min((n) => n)],
  ['max', a.max((n) => n)],
  ['distinct', a.distinct((n) => n)],
  ['quantile', a.quantile((n) => n, 0.9)],
  ['top', a.top((n) => n, 30)],
  ['collect', a.collect((n) => n, 20)],
  ['fold', a.fold(0, (most, n) => Math.max(most, n), Math.max)],
] as [string, Aggregator<number, unknown>][])('%s', (_, aggregator) => {
  test('of two parts put together is that of the whole', () => {
    const numbers = fc.array(fc.integer({ min: -50, max: 200 }), { maxLength: 60, size: 'max' })
    fc.assert(
      fc.property(numbers, numbers, (left, right) => {
        const parts = stored(aggregator.merge(run(aggregator, left), run(aggregator, right)))
        const sorted = (given: unknown) =>
          Array.isArray(given) ? [...given].map((each) => JSON.stringify(each)).sort() : given
        expect(sorted(aggregator.result(parts))).toEqual(sorted(of(aggregator, [...left, ...right])))
      }),
    )
  })
})

test('a sum of many floats has no error of its own', () => {
  expect(
    of(
      a.sum((n) => n),
      [0.1, 0.2, 0.3],
    ),
  ).toBe(0.6)
  expect(
    of(
      a.sum((n) => n),
      [1e16, 1, -1e16],
    ),
  ).toBe(1)
  expect(
    of(
      a.mean((n) => n),
      [],
    ),
  ).toBe(null)
})

test.each([100, 1_000, 20_000, 300_000])('distinct of %d keys is off by no more than it says', (keys) => {
  const { add, result } = a.distinct((n) => `visitor-${n}`)
  let state: unknown = []
  for (let n = 0; n < keys; n++) state = add(state, n * 7)
  for (let n = 0; n < Math.min(keys, 1_000); n++) state = add(state, n * 7)
  const off = Math.abs(result(state) - keys) / keys
  expect(off).toBeLessThanOrEqual(keys <= 128 ? 0 : 0.05)
})

test('a quantile of many values is within 1 % of the value that has its place', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.double({ min: 0.001, max: 1e6, noNaN: true }),
          fc.double({ min: -1e3, max: -0.01, noNaN: true }),
          fc.constant(0),
        ),
        {
          minLength: 1,
          maxLength: 300,
          size: 'max',
        },
      ),
      fc.constantFrom(0, 0.25, 0.5, 0.9, 0.99, 1),
      (values, q) => {
        const sorted = [...values].sort((x, y) => x - y)
        const exact = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!
        const given = of(
          a.quantile((n) => n, q),
          values,
        )!
        expect(Math.abs(given - exact)).toBeLessThanOrEqual(Math.abs(exact) * 0.0101 + 1e-12)
      },
    ),
  )
})

test('sketches of parts come to the same buckets as one of the whole, also where 1 is the largest', () => {
  const share = (n: number) => (n % 50) / 49
  const { add, merge, empty } = a.quantile(share, 0.5)
  const sketch = (values: readonly number[]) => values.reduce<unknown>((state, n) => stored(add(state, n)), empty)
  const numbers = Array.from({ length: 200 }, (_, n) => n)
  const small = numbers.filter((n) => share(n) < 0.5)
  const large = numbers.filter((n) => share(n) >= 0.5)
  expect(merge(sketch(small), sketch(large))).toEqual(sketch(numbers))
  expect(merge(sketch(large), sketch(small))).toEqual(sketch(numbers))
})

test('beyond seventeen powers of ten the smallest values are told apart no more, and the largest still are', () => {
  const { add, result, empty } = a.quantile((n) => 10 ** n, 0.99)
  const sketch = Array.from({ length: 400 }, (_, n) => (n % 80) - 40).reduce<unknown>(
    (state, n) => stored(add(state, n)),
    empty,
  )
  expect(JSON.stringify(sketch).length).toBeLessThan(10_000)
  expect(result(sketch)! / 1e39).toBeCloseTo(1, 1)
})

test('the most frequent of many keys are found, and counted never too low', () => {
  const values: number[] = []
  for (let n = 0; n < 5_000; n++) values.push(n % 3 === 0 ? n % 9 : 1_000 + n)
  const given = of(
    a.top((n) => n, 3),
    values,
  )
  expect(given.map(({ key }) => key).sort()).toEqual(['0', '3', '6'])
  for (const { key, count } of given) {
    const exact = values.filter((value) => String(value) === key).length
    expect(count).toBeGreaterThanOrEqual(exact)
    expect(count).toBeLessThanOrEqual(exact + values.length / 30)
  }
})

test('what is no number is refused with the name of who was asked', () => {
  expect(() => a.sum(() => Number.NaN).add([0, 0], 1)).toThrow(/it: sum must be given finite numbers, got NaN/)
  expect(() => a.distinct(() => undefined as never).add([], 1)).toThrow(/it: distinct must give a string/)
})
