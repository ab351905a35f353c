import { expect, expectTypeOf, test } from 'vitest'
import { keyBy, map, mapAsync, route, scan } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { type Doing, doings, START, through } from '../support/through.ts'

operatorSuite('route', {
  make: (samples) => ({
    main: samples.pipe(route({ cart: (e) => checked(e).what === 'cart', buy: (e) => e.what === 'buy' })),
  }),
  outside: () => route({ cart: (e) => checked(e).what === 'cart', buy: (e) => e.what === 'buy' }),
})
operatorSuite('split', {
  make: (samples) => {
    const { carts, rest } = samples.split({ carts: (e) => checked(e).what === 'cart', buys: (e) => e.what === 'buy' })
    return { main: carts, rest }
  },
})
operatorSuite('keyBy', {
  make: (samples) => {
    const counted = samples.pipe(keyBy((e) => checked(e).what)).pipe(
      mapAsync(async (e, meta) => `${meta.key} ${e.id}`),
      scan({ seed: 0, step: (n) => n + 1, emit: (n, e, _) => `${e} ${n}`, ttl: '1d' }),
    )
    return { main: counted }
  },
  forgets: 'never',
})

const at = (who: string, what: string, worth: number, i: number): Doing => ({ who, what, worth, at: START + i })

test('each value goes to the first case that takes it, and what none took is the rest', async () => {
  const given = await through(
    { doings: [at('ann', 'buy', 5, 0), at('ann', 'view', 20, 1), at('ann', 'buy', 30, 2)] },
    () => {
      const { large, buys, rest } = doings('doings', '1m').split({
        large: (e) => e.worth > 10,
        buys: (e) => e.what === 'buy',
      })
      return { large, buys, rest }
    },
  )
  const worths = (list: readonly Doing[]) => list.map(({ worth }) => worth)
  expect([worths(given.large), worths(given.buys), worths(given.rest)]).toEqual([[20, 30], [5], []])
})

test('a case works when it is the only one that is wanted', async () => {
  const given = await through({ doings: [at('ann', 'buy', 5, 0), at('ann', 'view', 20, 1)] }, () => ({
    views: doings('doings', '1m').split({ views: (e) => e.what === 'view' }).views,
  }))
  expect(given.views).toHaveLength(1)
})

test('a case that is a type predicate narrows its stream', () => {
  type Event = { type: 'click'; url: string } | { type: 'open' }
  const isClick = (e: Event) => e.type === 'click'
  const { clicks, rest } = (doings('doings', '1m') as never as import('../../core/stream.ts').Stream<Event>).split({
    clicks: isClick,
  })
  expectTypeOf(clicks.pipe(map((e) => e.url))).toEqualTypeOf<import('../../core/stream.ts').Stream<string>>()
  expectTypeOf(rest.pipe(map((e) => e.type))).toEqualTypeOf<import('../../core/stream.ts').Stream<'click' | 'open'>>()
})

test('behind keyBy, state is kept by the new key, also behind a call that is waited for', async () => {
  const given = await through(
    { doings: [at('ann', 'buy', 1, 0), at('bob', 'buy', 2, 1), at('ann', 'view', 4, 2), at('cyd', 'buy', 8, 3)] },
    () => ({
      main: doings('doings', '1m').pipe(
        keyBy((e) => e.what),
        mapAsync(async (e) => e.worth),
        scan({ seed: 0, step: (sum, worth) => sum + worth, emit: (sum, _e) => sum, ttl: '1d' }),
        map((sum, meta) => `${meta.key} ${sum}`),
      ),
    }),
  )
  expect(given.main).toEqual(['buy 1', 'buy 3', 'view 4', 'buy 11'])
})

test.each([
  [() => route({}), /route must be given at least one case/],
  [() => route({ a: 5 as never }), /route: a must be a function of the record, got 5/],
  [() => doings('d', '1m').split({}), /split must be given at least one case/],
  [() => doings('d', '1m').split({ rest: () => true }), /no case may be called rest/],
  [() => keyBy('who' as never), /keyBy must be given a function of the record, got 'who'/],
])('what is wrong is said', (make, message) => {
  expect(make).toThrow(message)
})
