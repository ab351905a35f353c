import fc from 'fast-check'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { type JoinKind, join, joinAsOf, joinLatest, latest, map } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, parted, START, through } from '../support/through.ts'

operatorSuite('join', {
  make: (samples, others) => {
    const pairs = samples.pipe(
      map((e) => checked(e)),
      join(others, { before: '5s', after: '20s', kind: 'outer' }),
    )
    return { main: pairs, late: pairs.side('late') }
  },
  forgets: '20001ms',
  fixture: 'join.json',
})
operatorSuite('joinLatest', {
  make: (samples, others) => {
    const right = samples.pipe(map((e) => checked(e)))
    return { main: others.pipe(joinLatest(right, { ttl: '30s', kind: 'left' })), right }
  },
  forgets: '30s',
})
operatorSuite('joinAsOf', {
  make: (samples, others) => {
    const pairs = samples.pipe(
      map((e) => checked(e)),
      joinAsOf(others, { history: '20s', kind: 'left' }),
    )
    return { main: pairs, late: pairs.side('late') }
  },
  forgets: '40001ms',
})
operatorSuite('latest', {
  make: (samples) => {
    const newest = samples.pipe(latest({ by: (e) => checked(e).what, ttl: '30s' }))
    return { main: newest, older: newest.side('older') }
  },
  forgets: '30s',
  fixture: 'latest.json',
})

const BEFORE = 10_000
const AFTER = 60_000
const text = (list: readonly unknown[]) => list.map((each) => JSON.stringify(each)).sort()

describe.each(['inner', 'left', 'outer'] as const)('join, kind: %s', (kind) => {
  test('gives the pairs that a look at all of both sides gives', async () => {
    await fc.assert(
      fc.asyncProperty(
        arbitraryDoings({ most: 40 }),
        arbitraryDoings({ most: 40 }),
        arbitraryCuts,
        async (lefts, rights, cuts) => {
          const { main, late } = await through(
            { lefts, rights },
            () => {
              const pairs = doings('lefts', '1h').pipe(
                join(doings('rights', '1h'), { before: '10s', after: '1m', kind: kind as JoinKind }),
              )
              return { main: pairs, late: pairs.side('late') }
            },
            cuts,
          )
          expect(late).toEqual([])
          const meet = (left: Doing, right: Doing) =>
            left.who === right.who && right.at >= left.at - BEFORE && right.at <= left.at + AFTER
          const wanted: { left: Doing | null; right: Doing | null }[] = lefts.flatMap((left) =>
            rights.filter((right) => meet(left, right)).map((right) => ({ left, right })),
          )
          if (kind !== 'inner')
            wanted.push(
              ...lefts
                .filter((left) => !rights.some((right) => meet(left, right)))
                .map((left) => ({ left, right: null })),
            )
          if (kind === 'outer')
            wanted.push(
              ...rights
                .filter((right) => !lefts.some((left) => meet(left, right)))
                .map((right) => ({ left: null, right })),
            )
          expect(text(main)).toEqual(text(wanted))
        },
      ),
      { numRuns: 50 },
    )
  })
})

test('join of one source with itself gives each pair unless its second came when the first was given up, and lays aside what can meet nothing', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryDoings({ back: 120 }), arbitraryCuts, async (records, cuts) => {
      const { main, late } = await through(
        { doings: records },
        () => {
          const { view, buy } = doings('doings', '15s').split({
            view: ({ what }) => what === 'view',
            buy: ({ what }) => what === 'buy',
          })
          const pairs = view.pipe(join(buy, { before: '10s', after: '1m' }))
          return { main: pairs, late: pairs.side('late') }
        },
        cuts,
      )
      const wanted: { left: Doing; right: Doing }[] = []
      const tooLate: Doing[] = []
      for (const own of parted(records, cuts.partitions)) {
        let watermark = Number.NEGATIVE_INFINITY
        const before: Doing[] = []
        const end = ({ what, at }: Doing) => at + (what === 'view' ? AFTER : BEFORE)
        for (const each of own) {
          watermark = Math.max(watermark, each.at - 15_000)
          if (each.what === 'cart') continue
          if (end(each) < watermark) {
            tooLate.push(each)
            continue
          }
          for (const other of before) {
            const [left, right] = each.what === 'view' ? [each, other] : [other, each]
            if (other.what === each.what || other.who !== each.who || end(other) < watermark) continue
            if (right.at >= left.at - BEFORE && right.at <= left.at + AFTER) wanted.push({ left, right })
          }
          before.push(each)
        }
      }
      expect(text(main)).toEqual(text(wanted))
      expect(text(late)).toEqual(text(tooLate))
    }),
    { numRuns: 60 },
  )
})

test('joinAsOf gives what was valid at the left record, whatever arrives when', async () => {
  await fc.assert(
    fc.asyncProperty(
      arbitraryDoings({ most: 40 }),
      arbitraryDoings({ most: 30 }),
      arbitraryCuts,
      async (lefts, rights, cuts) => {
        const { main, late } = await through(
          { lefts, rights },
          () => {
            const pairs = doings('lefts', '1h').pipe(joinAsOf(doings('rights', '1h'), { history: '3m', kind: 'left' }))
            return { main: pairs, late: pairs.side('late') }
          },
          cuts,
        )
        expect(late).toEqual([])
        // of right records with one time the one that came last counts; repeats of a record are that record
        const wanted = lefts.map((left) => {
          const valid = rights.filter(({ who, at }) => who === left.who && at <= left.at && at + 180_000 > left.at)
          const newest = Math.max(...valid.map(({ at }) => at))
          return { left, right: valid.findLast(({ at }) => at === newest) ?? null }
        })
        expect(text(main)).toEqual(text(wanted))
      },
    ),
    { numRuns: 80 },
  )
})

const at = (who: string, what: string, seconds: number): Doing => ({ who, what, worth: 1, at: START + seconds * 1_000 })

test('joinLatest gives the newest that has come, and not what is older', async () => {
  const rights = [at('ann', 'Bonn', 0), at('ann', 'Ulm', 20), at('ann', 'Jena', 5), at('bob', 'Köln', 1)]
  const lefts = [at('ann', 'view', 30), at('cyd', 'view', 31), at('bob', 'view', 32)]
  const run = (kind: 'inner' | 'left') =>
    through({ lefts, rights }, () => ({
      main: doings('lefts', '1m').pipe(
        joinLatest(doings('rights', '1m'), { ttl: '1d', kind }),
        map(({ left, right }) => `${left.who} ${right?.what}`),
      ),
    }))
  expect((await run('left')).main).toEqual(['ann Ulm', 'cyd undefined', 'bob Köln'])
  expect((await run('inner')).main).toEqual(['ann Ulm', 'bob Köln'])
})

test('a record that comes when nothing can meet it any more is laid aside', async () => {
  const { main, late } = await through(
    {
      lefts: [at('ann', 'click', 0), at('bob', 'click', 1_000), at('ann', 'click', 10)],
      rights: [at('ann', 'buy', 3_000)],
    },
    () => {
      const pairs = doings('lefts', '0s').pipe(join(doings('rights', '1h'), { after: '1m' }))
      return { main: pairs, late: pairs.side('late') }
    },
  )
  expect(main).toEqual([])
  expect(late.length).toBeLessThanOrEqual(2)
})

test('the kind says which side may be null', () => {
  const [lefts, rights] = [doings('lefts', '1m'), doings('rights', '1m')]
  lefts.pipe(
    join(rights, { after: '1m' }),
    map(({ left, right }) => expectTypeOf([left, right]).toEqualTypeOf<Doing[]>()),
  )
  lefts.pipe(
    join(rights, { after: '1m', kind: 'left' }),
    map(({ right }) => expectTypeOf(right).toEqualTypeOf<Doing | null>()),
  )
  lefts.pipe(
    join(rights, { after: '1m', kind: 'outer' }),
    map(({ left }) => expectTypeOf(left).toEqualTypeOf<Doing | null>()),
  )
  lefts.pipe(
    joinLatest(rights, { ttl: '1d' }),
    map(({ right }) => expectTypeOf(right).toEqualTypeOf<Doing>()),
  )
  lefts.pipe(
    joinAsOf(rights, { history: '1d', kind: 'left' }),
    map(({ right }) => expectTypeOf(right).toEqualTypeOf<Doing | null>()),
  )
})

test.each([
  [() => join(undefined as never, { after: '1m' }), /join "join" must be given a stream to join, got undefined/],
  [() => join(doings('r', '1m'), { after: 'soon' as never }), /join "join": after must be a duration/],
  [() => join(doings('r', '1m'), { kind: 'right' as never }), /kind must be 'inner' or 'left' or 'outer', got 'right'/],
  [() => joinLatest(doings('r', '1m'), { ttl: '1d', on: 'who' as never }), /on must be \{ left, right \}/],
])('an option that is wrong is named', (make, message) => {
  expect(make).toThrow(message)
})
