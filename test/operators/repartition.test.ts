import fc from 'fast-check'
import { lastValueFrom, of, toArray } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { MillraceError } from '../../core/errors.ts'
import { pipeline, planOf } from '../../core/pipeline.ts'
import { merge, stream } from '../../core/stream.ts'
import { absence } from '../../operators/absence.ts'
import { filter } from '../../operators/filter.ts'
import { join } from '../../operators/join.ts'
import { map } from '../../operators/map.ts'
import { mapAsync } from '../../operators/map-async.ts'
import { repartition } from '../../operators/repartition.ts'
import { scan } from '../../operators/scan.ts'
import { tumbling } from '../../operators/tumbling.ts'
import { console } from '../../sinks/index.ts'
import { listSource } from '../../testing/list-source.ts'
import { Trial } from '../../testing/trial.ts'
import { anything } from '../support/number-source.ts'
import { arbitraryCuts, arbitraryDoings, type Doing, doings, START, through } from '../support/through.ts'

const events = () => doings('events', '2h')
const MINUTE = 60_000
const sorted = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).sort()

/** Counts of each kind and minute, from all records at once. */
function perMinute(records: readonly Doing[]): unknown[] {
  const counts = new Map<string, number>()
  for (const { what, at } of records) {
    const window = `${what} ${Math.floor(at / MINUTE) * MINUTE}`
    counts.set(window, (counts.get(window) ?? 0) + 1)
  }
  return [...counts].map(([window, count]) => {
    const [what, start] = window.split(' ')
    return { what, start: Number(start), count }
  })
}

describe('behind a repartition', () => {
  test('windows count all records of a key, whatever partitions and epochs they came through, and whatever crashes', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings({ back: 600 }), arbitraryCuts, async (records, cuts) => {
        const { counted } = await through(
          { events: records },
          () => ({
            counted: events().pipe(
              repartition((e) => e.what),
              tumbling({ size: '1m', aggregate: (a) => ({ count: a.count() }) }),
              map(({ key, start, count }) => ({ what: key, start, count })),
            ),
          }),
          cuts,
        )
        expect(sorted(counted)).toEqual(sorted(perMinute(records)))
      }),
      { numRuns: 40 },
    )
  })

  test('two streams meet in one partition, also behind a second one, and asynchronous work keeps its place', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryDoings({ back: 30, most: 40 }), arbitraryCuts, async (records, cuts) => {
        const { pairs, totals } = await through(
          { events: records },
          () => {
            const all = events().pipe(mapAsync(async (e) => e))
            const carts = all.pipe(
              filter((e) => e.what === 'cart'),
              repartition((e) => e.worth, { name: 'carts' }),
            )
            const buys = all.pipe(
              filter((e) => e.what === 'buy'),
              repartition((e) => e.worth, { name: 'buys', partitions: cuts.partitions }),
            )
            const met = carts.pipe(
              join(buys, { after: '10m', before: '10m' }),
              map(({ left, right }) => ({ who: left.who, by: right.who, worth: left.worth })),
            )
            return {
              pairs: met,
              totals: met.pipe(
                repartition((e) => e.by, { name: 'buyers', partitions: 2 }),
                scan({ seed: { count: 0 }, step: ({ count }) => ({ count: count + 1 }), ttl: '7d' }),
                map(({ count }, { key }) => ({ key, count })),
              ),
            }
          },
          cuts,
        )
        const carts = records.filter(({ what }) => what === 'cart')
        const buys = records.filter(({ what }) => what === 'buy')
        const wanted = carts.flatMap((cart) =>
          buys
            .filter((buy) => buy.worth === cart.worth && Math.abs(buy.at - cart.at) <= 600_000)
            .map((buy) => ({ who: cart.who, by: buy.who, worth: cart.worth })),
        )
        expect(sorted(pairs)).toEqual(sorted(wanted))
        const last = new Map<string, number>()
        for (const { key, count } of totals) last.set(key, Math.max(last.get(key) ?? 0, count))
        const count = (who: string) => wanted.filter(({ by }) => by === who).length
        expect(Object.fromEntries(last)).toEqual(
          Object.fromEntries([...new Set(wanted.map(({ by }) => by))].map((who) => [who, count(who)])),
        )
      }),
      { numRuns: 30 },
    )
  })

  const quiet = (partitions: readonly (readonly Doing[])[], more = {}) =>
    new Trial({
      start: START,
      inputs: { events: partitions },
      pipeline: (to) =>
        pipeline('quiet', {
          left: doings('events', '0s')
            .pipe(
              repartition((e) => e.who),
              absence({ after: (e) => e.what === 'cart', unless: (e) => e.what === 'buy', within: '30m' }),
            )
            .to(to),
        }),
      ...more,
    })
  const cart: Doing = { who: 'ann', what: 'cart', worth: 1, at: START }

  test('a wait ends by the clock when no record comes any more, also beside partitions that never had one', async () => {
    const trial = quiet([[], [cart], []])
    await trial.settle()
    await trial.advance(29 * MINUTE, 10_000)
    expect(trial.values('left')).toEqual([])
    await trial.advance(2 * MINUTE, 10_000)
    expect(trial.values('left')).toMatchObject([{ key: 'ann', at: START + 30 * MINUTE }])
  })

  test('a task that lags behind holds the time of all behind it', async () => {
    const trial = quiet([[cart], [{ ...cart, who: 'bob', what: 'view' }]])
    await trial.settle()
    trial.sources.events!.push({ ...cart, who: 'cyd', what: 'view', at: START + 40 * MINUTE }, 0)
    await trial.settle()
    expect(trial.values('left')).toEqual([])
    trial.sources.events!.push({ ...cart, what: 'buy', at: START + 20 * MINUTE }, 1)
    await trial.settle()
    trial.sources.events!.push({ ...cart, who: 'bob', what: 'view', at: START + 50 * MINUTE }, 1)
    await trial.settle()
    await trial.finish()
    expect(trial.values('left')).toEqual([])
  })

  test('a cause is what it was before it, so that a message is the same one', async () => {
    const trial = new Trial({
      inputs: { events: [[cart], [{ ...cart, who: 'bob' }]] },
      pipeline: (to) =>
        pipeline('causes', {
          out: doings('events', '0s')
            .pipe(repartition((e) => e.what))
            .to(to),
        }),
    })
    await trial.settle()
    const rows = Object.values(trial.outcome().rows).flat()
    expect(rows.map(({ cause }) => cause).sort()).toEqual(['events/0/0', 'events/1/0'])
    expect(rows.map(({ key, time }) => [key, time])).toEqual([
      ['cart', START],
      ['cart', START],
    ])
  })

  test('a value that is no JSON is a dead letter of its record', async () => {
    const trial = new Trial({
      inputs: { events: [[cart, { ...cart, who: 'bob' }]] },
      pipeline: (to) =>
        pipeline(
          'dates',
          {
            out: doings('events', '0s')
              .pipe(
                map((e) => ({ who: e.who, at: e.who === 'ann' ? new Date(e.at) : e.at })),
                repartition((e) => e.who),
              )
              .to(to),
          },
          { maxPoison: 1 },
        ),
    })
    await trial.settle()
    expect(trial.disk.deadLetters).toMatchObject([{ position: 0, where: 'repartition', code: 'NOT_JSON' }])
    expect(trial.disk.deadLetters[0]!.reason).toContain('at')
    expect(trial.values('out')).toMatchObject([{ who: 'bob' }])
  })
})

describe('a pipeline that is cut', () => {
  const source = () =>
    stream(listSource('events', [[]]), { schema: anything, key: (e: any) => e.who, time: (e: any) => e.at })

  test('has a stage for what hangs together, in the order in which records go', () => {
    const all = source()
    const a = all.pipe(repartition((e: any) => e.a, { name: 'by-a' }))
    const b = all.pipe(repartition((e: any) => e.b, { name: 'by-b' }))
    const both = merge(a, b).pipe(repartition((e: any) => e.c, { name: 'by-c' }))
    const { stages } = planOf(pipeline('cut', { raw: all.to(console()), a: a.to(console()), c: both.to(console()) }))
    expect(stages.map(({ stage }) => stage)).toEqual(['main', 'by-a', 'by-c'])
    expect(stages.map(({ sources }) => sources.map(({ name }) => name))).toEqual([
      ['events'],
      ['by-a', 'by-b'],
      ['by-c'],
    ])
    expect(stages.map(({ outputs }) => outputs.map(({ name }) => name))).toEqual([
      ['raw', 'by-a', 'by-b'],
      ['a', 'by-c'],
      ['c'],
    ])
  })

  const refusal = (make: () => unknown) => {
    try {
      make()
    } catch (error) {
      return error instanceof MillraceError ? `${error.code} ${error.message}` : String(error)
    }
    return 'nothing was refused'
  }

  test('refuses streams of two places that meet, channels of one name, and a name that an output has', () => {
    const all = source()
    const moved = all.pipe(repartition((e: any) => e.a))
    expect(refusal(() => pipeline('cut', { met: merge(all, moved).to(console()) }))).toMatch(
      /BAD_PIPELINE .*repartition brings records to other partitions.*repartition of its own/,
    )
    const again = all.pipe(repartition((e: any) => e.b))
    expect(refusal(() => pipeline('cut', { a: moved.to(console()), b: again.to(console()) }))).toMatch(
      /two channels are called "repartition".*name: 'repartition-2'/,
    )
    expect(refusal(() => pipeline('cut', { repartition: moved.to(console()) }))).toMatch(/an output and a channel/)
  })

  test('refuses options that are none', () => {
    expect(refusal(() => repartition('who' as never))).toMatch(/BAD_OPTION .*function/)
    expect(refusal(() => repartition(() => 1, { name: 'a b' }))).toMatch(/BAD_OPTION .*letters/)
    expect(refusal(() => repartition(() => 1, { partitions: 0 }))).toMatch(/BAD_OPTION .*1 to 1024/)
  })
})

test('on a plain Observable, it passes values as they are', async () => {
  expect(
    await lastValueFrom(
      of(1, 2).pipe(
        repartition((n) => n),
        toArray(),
      ),
    ),
  ).toEqual([1, 2])
})
