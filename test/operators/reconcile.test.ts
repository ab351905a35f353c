import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { merge } from '../../core/stream.ts'
import { map, patch, reconcile } from '../../operators/index.ts'
import { type Clock, noted, skewOf } from '../../operators/reconcile/clocks.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { arbitraryCuts, type Cuts, type Doing, doings, START, through } from '../support/through.ts'

operatorSuite('reconcile', {
  make: (samples) => {
    const said = samples.pipe(
      map((e) => ({
        from: checked(e).what,
        value: {
          set: { first: e.id, city: e.what === 'view' ? null : `${e.at % 7}`, seen: e.at, ids: [e.id] },
          ...(e.what === 'cart' ? { version: e.at % 10_000 } : {}),
          ...(e.at % 11_000 === 0 ? { deleted: true } : {}),
        },
      })),
    )
    const people = said.pipe(
      reconcile({
        trust: ['buy', 'cart', 'view'],
        fields: { first: 'oldest', seen: 'max', ids: (a, b) => [...new Set([...a, ...b])].sort() },
        tombstones: '40s',
        history: true,
      }),
    )
    return { main: people, rejected: people.side('rejected') }
  },
  fixture: 'reconcile.json',
  forgets: 'never',
})

/** What a source says, as the tests draw it. */
interface Said {
  readonly from: 'crm' | 'shop' | 'web'
  readonly at: number
  readonly version?: number
  readonly deleted?: boolean
  readonly set: {
    readonly city?: string | null
    readonly first?: number
    readonly seen?: number
    readonly tags?: readonly string[]
    readonly vip?: boolean | null
    readonly low?: number
  }
}

const arbitrarySaid: fc.Arbitrary<Said> = fc
  .record({
    from: fc.constantFrom('crm' as const, 'shop' as const, 'web' as const),
    at: fc.integer({ min: 0, max: 12 }),
    version: fc.integer({ min: 0, max: 6 }),
    deleted: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    set: fc.record(
      {
        city: fc.constantFrom('Bonn', 'Köln', 'Ulm', null),
        first: fc.integer({ min: 1, max: 4 }),
        seen: fc.integer({ min: 1, max: 9 }),
        tags: fc.subarray(['a', 'b', 'c', 'd']),
        vip: fc.constantFrom(true, false, null),
        low: fc.integer({ min: 1, max: 9 }),
      },
      { requiredKeys: [] },
    ),
  })
  .map(({ from, at, version, deleted, set }) => ({
    from,
    at: START + at * 1_000,
    ...(from === 'crm' ? { version } : {}),
    ...(deleted ? { deleted } : {}),
    set,
  }))

const TRUST = ['crm', 'shop', 'web'] as const

/** The record, by definition: over all that was said at once, without any order of arrival. */
function reference(all: readonly Said[]): { record: Record<string, unknown>; deleted: boolean } {
  const rank = ({ from }: Said) => TRUST.indexOf(from)
  const text = (value: unknown) => JSON.stringify(value)
  const size = (a: unknown, b: unknown) =>
    typeof a === 'number' && typeof b === 'number' ? a - b : text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : 0
  const last = (list: readonly Said[], order: (a: Said, b: Said) => number) => [...list].sort(order).at(-1)
  const tombs = TRUST.flatMap((from) => {
    const tomb = last(
      all.filter((said) => said.from === from && said.deleted),
      (a, b) => (a.version ?? 0) - (b.version ?? 0) || a.at - b.at,
    )
    return tomb ? [tomb] : []
  })
  const alive = (said: Said) =>
    tombs.every((tomb) =>
      tomb.from === said.from && said.version !== undefined ? said.version > tomb.version! : said.at > tomb.at,
    )
  const said = (field: keyof Said['set']) => all.filter(({ set }) => set[field] !== undefined)
  const newest = (field: keyof Said['set'], of: readonly Said[]) => {
    const words = TRUST.flatMap((from) => {
      const word = last(
        of.filter((one) => one.from === from),
        (a, b) => (a.version ?? 0) - (b.version ?? 0) || a.at - b.at || size(a.set[field], b.set[field]),
      )
      return word ? [word] : []
    })
    const winner = last(
      words.filter(alive),
      (a, b) => a.at - b.at || rank(b) - rank(a) || size(a.set[field], b.set[field]),
    )
    return winner?.set[field] ?? undefined
  }
  const living = (field: keyof Said['set']) => said(field).filter(alive)
  const record: Record<string, unknown> = {
    city: newest('city', said('city')),
    vip: newest(
      'vip',
      said('vip').filter(({ from }) => from === 'shop'),
    ),
    first: [...living('first')].sort(
      (a, b) =>
        a.at - b.at || rank(a) - rank(b) || (a.version ?? -1) - (b.version ?? -1) || size(a.set.first, b.set.first),
    )[0]?.set.first,
    seen: living('seen').length > 0 ? Math.max(...living('seen').map(({ set }) => set.seen!)) : undefined,
    low: living('low').length > 0 ? Math.min(...living('low').map(({ set }) => set.low!)) : undefined,
    tags: living('tags').length > 0 ? [...new Set(living('tags').flatMap(({ set }) => set.tags!))].sort() : undefined,
  }
  for (const field of Object.keys(record)) if (record[field] === undefined) delete record[field]
  return { record, deleted: tombs.length > 0 && Object.keys(record).length === 0 }
}

/** The last record that a run gives. */
async function reconciled(all: readonly Said[], cuts?: Cuts, whoOf: (said: Said) => string = () => 'ann') {
  const { main, rejected } = await through(
    { doings: all.map((said) => ({ who: whoOf(said), what: 'x', worth: 0, at: said.at, said }) as Doing) },
    () => {
      const people = doings('doings', '1h').pipe(
        map((e) => {
          const { from, set, version, deleted } = (e as Doing & { said: Said }).said
          return {
            from,
            value: { set, ...(version === undefined ? {} : { version }), ...(deleted ? { deleted } : {}) },
          }
        }),
        reconcile({
          trust: TRUST,
          fields: { first: 'oldest', seen: 'max', low: Math.min, tags: 'union', vip: { only: 'shop' } },
          future: '365d',
        }),
      )
      return { main: people, rejected: people.side('rejected') }
    },
    cuts,
  )
  const { record, deleted } = main.at(-1) ?? { record: {}, deleted: false }
  return { record, deleted, main, rejected }
}

describe('reconcile, whatever the order of arrival', () => {
  test('comes to the record that the definition gives, for any permutation and repetition, cut anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(arbitrarySaid, { maxLength: 14 }).chain((all) =>
          fc.tuple(
            fc.constant(all),
            fc.shuffledSubarray([...all, ...all.slice(0, 5)], {
              minLength: Math.min(all.length + 5, 2 * all.length),
            }),
          ),
        ),
        fc.array(fc.record({ records: fc.integer({ min: 1, max: 5 }), bytes: fc.constant(1_000_000) }), {
          minLength: 1,
          maxLength: 3,
        }),
        fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 2 }),
        async (all, bounds, deaths) => {
          const [once, mixed] = all
          const wanted = reference(once)
          const { record, deleted, main } = await reconciled(mixed, { bounds, deaths, partitions: 1 })
          expect({ record, deleted }).toEqual(wanted)
          expect(main.map(({ version }) => version)).toEqual(main.map((_, i) => i + 1))
        },
      ),
      { numRuns: 250 },
    )
  })

  test('keeps people apart, in any number of partitions', async () => {
    const people = ['ann', 'bob', 'cyd']
    await fc.assert(
      fc.asyncProperty(
        fc
          .array(fc.record({ who: fc.constantFrom(...people), said: arbitrarySaid }), { maxLength: 30 })
          .chain((all) =>
            fc.tuple(fc.constant(all), fc.shuffledSubarray([...all, ...all.slice(0, 5)], { minLength: all.length })),
          ),
        arbitraryCuts,
        async ([all, some], cuts) => {
          // each of them at least once, in any order
          const mixed = [...some, ...all]
          const owner = new Map(mixed.map(({ who, said }) => [said, who]))
          const { main } = await reconciled(
            mixed.map(({ said }) => said),
            cuts,
            (said) => owner.get(said)!,
          )
          for (const who of people) {
            const { record, deleted } = main.findLast(({ key }) => key === who) ?? { record: {}, deleted: false }
            const own = all.filter((each) => each.who === who).map(({ said }) => said)
            expect({ record, deleted }).toEqual(reference(own))
          }
        },
      ),
      { numRuns: 100 },
    )
  })

  test('gives a record only when it has changed, with what has changed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(arbitrarySaid, { maxLength: 14 }), async (all) => {
        const { main } = await reconciled(all)
        let before: Record<string, unknown> = {}
        let wasDeleted = false
        for (const { record, changed, deleted } of main) {
          const fields = new Set([...Object.keys(before), ...Object.keys(record)])
          const different = [...fields].filter(
            (field) => JSON.stringify(before[field]) !== JSON.stringify(record[field]),
          )
          expect([...changed].sort()).toEqual(different.sort())
          expect(different.length > 0 || deleted !== wasDeleted).toBe(true)
          before = record
          wasDeleted = deleted
        }
      }),
      { numRuns: 150 },
    )
  })
})

const said = (from: Said['from'], seconds: number, set: Said['set'], more: Partial<Said> = {}): Said => ({
  from,
  at: START + seconds * 1_000,
  set,
  ...more,
})
const reasons = (rejected: readonly { field: string; reason: string }[]) =>
  rejected.map(({ field, reason }) => `${field}: ${reason}`)

test('what does not count is laid aside, with the reason', async () => {
  const { rejected, record } = await reconciled([
    said('web', 10, { city: 'Bonn', vip: true }),
    said('web', 5, { city: 'Ulm' }),
    said('shop', 10, { city: 'Köln', first: 1 }),
    said('web', 10, { city: 'Bonn' }),
    said('shop', 12, { first: 2 }),
    said('shop', 20, {}, { deleted: true }),
    said('web', 15, { city: 'Ulm' }),
  ])
  expect(reasons(rejected)).toEqual(['vip: lower-trust', 'city: older', 'first: newer', 'city: deleted'])
  expect(record).toEqual({})
})

test('what was said by one at the same time as by another counts by trust, in either order', async () => {
  const [web, crm] = [said('web', 1, { city: 'Ulm' }), said('crm', 1, { city: 'Bonn' }, { version: 1 })]
  expect((await reconciled([web, crm])).record).toEqual({ city: 'Bonn' })
  const { record, rejected } = await reconciled([crm, web])
  expect(record).toEqual({ city: 'Bonn' })
  expect(reasons(rejected)).toEqual(['city: lower-trust'])
})

test('what comes from the future is held to its arrival and a bound, and said', async () => {
  const people = () => {
    const made = doings('doings', '1h').pipe(
      map((e) => ({ from: e.what as 'web' | 'crm', value: { set: { city: e.who + e.worth } } })),
      reconcile({ trust: ['crm', 'web'], future: '1m', history: true }),
    )
    return { main: made, rejected: made.side('rejected') }
  }
  // a trial's clock stands at the beginning of its time
  const { main, rejected } = await through(
    { doings: [{ who: 'ann', what: 'web', worth: 1, at: START + 86_400_000_000 }] },
    people,
  )
  expect(reasons(rejected)).toEqual(['*: from-the-future'])
  expect(main[0].record).toEqual({ city: 'ann1' })
  expect(main[0].history.city.time).toBeLessThan(START + 86_400_000_000)
})

test('streams of different sources reconcile by their names, and the fields are known', async () => {
  const { main } = await through(
    {
      crm: [{ who: 'ann', what: 'Bonn', worth: 7, at: START + 5 }],
      web: [
        { who: 'ann', what: 'Ulm', worth: 1, at: START },
        { who: 'ann', what: 'Ulm', worth: 2, at: START + 9 },
      ],
    },
    () => ({
      main: merge({
        crm: doings('crm', '1m').pipe(
          patch((e) => ({ city: e.what, points: e.worth }), { version: (e) => BigInt(e.worth) }),
        ),
        web: doings('web', '1m').pipe(
          patch((e, meta) => ({ seen: meta.time, city: e.worth > 1 ? e.what : undefined })),
        ),
      }).pipe(
        reconcile({ trust: ['crm', 'web'], fields: { seen: 'max', city: { only: 'crm' } } }),
        map(({ record, changed }) => ({
          city: record.city?.toUpperCase(),
          seen: (record.seen ?? START) - START,
          changed,
        })),
      ),
    }),
  )
  expect(main).toEqual([
    { city: undefined, seen: 0, changed: ['seen'] },
    { city: 'BONN', seen: 0, changed: ['city', 'points'] },
    { city: 'BONN', seen: 9, changed: ['seen'] },
  ])
})

test('a rule that depends on the order of arrival is found out', async () => {
  const run = (rule: (a: number, b: number) => number) =>
    through({ doings: [3, 5, 9, 4].map((worth, i) => ({ who: 'ann', what: 'web', worth, at: START + i })) }, () => ({
      main: doings('doings', '1m').pipe(
        map((e) => ({ from: 'web' as const, value: { set: { points: e.worth } } })),
        reconcile({ trust: ['web'], fields: { points: rule } }),
      ),
    }))
  await expect(run((a, b) => a + b)).rejects.toThrow(/rule for points is not idempotent/)
  await expect(run((a, _b) => a)).rejects.toThrow(/is not commutative/)
  await expect(run((a, b) => (a + b) / 2)).rejects.toThrow(/is not associative/)
  // three beats nine, nine beats five, five beats three: each pair agrees, all three do not
  const game = (a: number, b: number) =>
    a === b ? a : a + b === 12 ? 3 : a + b === 14 ? 9 : a + b === 8 ? 5 : Math.max(a, b)
  await expect(run(game)).rejects.toThrow(/is not associative/)
  await expect(run(Math.max)).resolves.toBeDefined()
})

test('the oldest say after a deletion counts, however many there were before', async () => {
  const before = Array.from({ length: 50 }, (_, i) => said('web', i, { first: 100 + i }))
  const deleted = said('shop', 60, {}, { deleted: true })
  const after = Array.from({ length: 50 }, (_, i) => said('web', 61 + i, { first: 200 + i }))
  expect((await reconciled([...before, deleted, ...after])).record).toEqual({ first: 200 })
  expect((await reconciled([...before, ...after.slice(0, 1), deleted])).deleted).toBe(true)
  expect((await reconciled([deleted, ...after.toReversed(), ...before])).record).toEqual({ first: 200 })
})

describe('tombstones', () => {
  const people = (list: readonly Said[]) =>
    through(
      { doings: list.map((each) => ({ who: 'ann', what: 'x', worth: 0, at: each.at, said: each }) as Doing) },
      () => {
        const made = doings('doings', '0s').pipe(
          map((e) => {
            const { from, set, deleted } = (e as Doing & { said: Said }).said
            return { from, value: { set, ...(deleted ? { deleted } : {}) } }
          }),
          reconcile({ trust: TRUST, tombstones: '1m', future: '365d' }),
        )
        return { main: made, rejected: made.side('rejected') }
      },
    )

  test('a field that was cleared stays so for what is older, as long as the tombstone is kept', async () => {
    const cleared = [said('web', 0, { city: 'Bonn' }), said('web', 10, { city: null })]
    const older = said('shop', 5, { city: 'Ulm' })
    const kept = await people([...cleared, said('web', 69, { vip: true }), older])
    expect(kept.main.at(-1).record).toEqual({ vip: true })
    expect(reasons(kept.rejected)).toEqual(['city: older'])
    const gone = await people([...cleared, said('web', 72, { vip: true }), older])
    expect(gone.main.at(-1).record).toEqual({ vip: true, city: 'Ulm' })
  })

  test('a record that was deleted does, too', async () => {
    const deleted = [said('web', 0, { city: 'Bonn' }), said('web', 10, {}, { deleted: true })]
    const older = said('shop', 5, { city: 'Ulm' })
    const kept = await people([...deleted, said('web', 69, {}), older])
    expect(kept.main.at(-1)).toMatchObject({ record: {}, deleted: true })
    expect(reasons(kept.rejected)).toEqual(['city: deleted'])
    const gone = await people([...deleted, said('web', 72, {}), older])
    expect(gone.main.at(-1)).toMatchObject({ record: { city: 'Ulm' }, deleted: false })
  })
})

test('the clock of a source is told by its quickest event of the last one to two hours', () => {
  const HOUR = 3_600_000
  const after = (events: readonly (readonly [ahead: number, now: number])[]) =>
    skewOf(events.reduce<Clock | undefined>((known, [ahead, now]) => noted(known, ahead, now), undefined)!)
  // three minutes ahead, and between a second and a minute under way
  expect(after([1, 40, 9, 60].map((late, i) => [180_000 - late * 1_000, i * 60_000]))).toBe(179_000)
  // behind is below zero
  expect(
    after([
      [-9_000, 0],
      [-7_000, 1],
      [-8_000, 2],
    ]),
  ).toBe(-7_000)
  // what an hour said counts for the next one, and not for the one after that
  const lead: readonly [number, number][] = [
    [180_000, 0],
    [500, HOUR],
    [400, HOUR + 1],
  ]
  expect(after(lead)).toBe(180_000)
  expect(after([...lead, [300, 2 * HOUR]])).toBe(500)
  expect(after([...lead, [300, 4 * HOUR]])).toBe(300)
})

test.each([
  [{ trust: [] }, /trust must name every source once/],
  [{ trust: ['a', 'a'] }, /trust must name every source once/],
  [{ fields: { x: 'latest' } }, /the rule for x must be 'newest', 'oldest'/],
  [{ fields: { x: { only: 'b' } } }, /the rule for x must be/],
  [{ tombstones: 'a month' }, /reconcile "reconcile": tombstones must be a positive duration/],
])('an option that is wrong is named: %o', (wrong, message) => {
  expect(() => reconcile({ trust: ['a'], ...wrong } as never)).toThrow(message)
})
