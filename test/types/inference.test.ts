import { pipeline } from 'millrace'
import {
  absence,
  dedup,
  filter,
  flatMap,
  map,
  mapAsync,
  patch,
  reconcile,
  route,
  scan,
  sequence,
  series,
  tumbling,
} from 'millrace/operators'
import { clickhouse, esp } from 'millrace/sinks'
import { fromFile, fromKafka } from 'millrace/sources'
import { of, map as rxMap } from 'rxjs'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { merge, type Output, type Stream } from '../../core/index.ts'

const Shop = z.object({ id: z.string(), who: z.string(), type: z.enum(['view', 'cart', 'order']), at: z.number() })
type Shop = z.infer<typeof Shop>
const Event = z.discriminatedUnion('type', [
  z.object({ type: z.literal('view'), who: z.string(), item: z.string(), at: z.number() }),
  z.object({ type: z.literal('order'), who: z.string(), eur: z.number(), at: z.number() }),
])
const Page = z.object({ url: z.url(), seen: z.coerce.date() })
const shop = fromKafka({ topic: 'shop', schema: Shop, key: (e) => e.who, time: (e) => e.at })
const pages = fromFile({ path: 'pages.csv', schema: Page, key: (p) => p.url, time: (p) => p.seen.getTime() })

type ValueOf<S> = S extends Stream<infer T> ? T : never

describe('types go from the schema to the sink without a word by the author', () => {
  test('a source gives what its schema gives, not what it takes', () => {
    expectTypeOf<ValueOf<typeof shop>>().toEqualTypeOf<Shop>()
    expectTypeOf<ValueOf<typeof pages>>().toEqualTypeOf<{ url: string; seen: Date }>()
  })

  test('a chain of operators knows each value, and its meta', () => {
    const chain = shop.pipe(
      dedup({ by: (e) => e.id, within: '1d' }),
      map((e, meta) => ({ ...e, key: meta.key, when: new Date(meta.time) })),
      flatMap((e) => [e.who.length, e.at]),
      filter((n) => n > 1),
      mapAsync(async (n, { signal }) => `${n} ${signal.aborted}`),
    )
    expectTypeOf<ValueOf<typeof chain>>().toEqualTypeOf<string>()
  })

  test('a test that says what passes narrows what comes behind it', () => {
    const carts = shop.pipe(filter((e) => e.type === 'cart'))
    const texts = shop.pipe(
      map((e) => (e.at > 1 ? e.id : null)),
      filter((id) => id !== null),
    )
    expectTypeOf<ValueOf<typeof texts>>().toEqualTypeOf<string>()
    expectTypeOf<ValueOf<typeof carts>>().toEqualTypeOf<Shop>()
  })

  test('scan has the type of its seed, of its schema, or of what it emits', () => {
    const sum = shop.pipe(scan({ seed: { n: 0, last: '' }, step: (s, e) => ({ n: s.n + 1, last: e.id }), ttl: '1d' }))
    expectTypeOf<ValueOf<typeof sum>>().toEqualTypeOf<{ n: number; last: string }>()
    const said = shop.pipe(scan({ seed: 0, step: (n) => n + 1, emit: (n, e) => `${e.id} ${n}`, ttl: '1d' }))
    expectTypeOf<ValueOf<typeof said>>().toEqualTypeOf<string>()
  })

  test('absence gives what began the wait, and its side stream what came too late', () => {
    const left = shop.pipe(
      absence({ after: (e) => e.type === 'cart', unless: (e) => e.type === 'order', within: '30m' }),
    )
    expectTypeOf<ValueOf<typeof left>>().toEqualTypeOf<{
      readonly key: string
      readonly value: Shop
      readonly at: number
    }>()
    const late = left.side('late')
    expectTypeOf<ValueOf<typeof late>>().toEqualTypeOf<Shop>()
    // @ts-expect-error there is no such side stream
    expect(() => left.side('lost')).toThrow(/no operator/)
  })

  test('a window has a field for each aggregate, and its late records are known', () => {
    const hourly = shop.pipe(
      tumbling({
        size: '1h',
        aggregate: (a) => ({
          n: a.count((e) => e.type === 'order'),
          mean: a.mean((e) => e.at),
          who: a.distinct((e) => e.who),
          top: a.top((e) => e.who, 3),
          ids: a.collect((e) => e.id, 5),
          last: a.fold(
            '',
            (_, e) => e.id,
            (_, b) => b,
          ),
        }),
      }),
    )
    expectTypeOf<ValueOf<typeof hourly>>().toEqualTypeOf<{
      readonly key: string
      readonly start: number
      readonly end: number
      readonly revision: number
      readonly closed: boolean
      readonly n: number
      readonly mean: number | null
      readonly who: number
      readonly top: readonly { readonly key: string; readonly count: number }[]
      readonly ids: readonly string[]
      readonly last: string
    }>()
    const late = hourly.side('late')
    expectTypeOf<ValueOf<typeof late>['value']>().toEqualTypeOf<Shop>()
  })

  test('a reconciled record has the fields of all its sources', () => {
    const people = merge({
      crm: shop.pipe(patch((e) => ({ city: e.id as string | null, points: e.at }))),
      web: shop.pipe(patch((e) => ({ seen: e.at, city: e.id as string | undefined }))),
    }).pipe(reconcile({ trust: ['crm', 'web'], fields: { seen: 'max', city: { only: 'crm' } } }))
    expectTypeOf<ValueOf<typeof people>['record']>().toEqualTypeOf<{
      readonly city?: string
      readonly points?: number
      readonly seen?: number
    }>()
    expectTypeOf<ValueOf<typeof people>['changed']>().toEqualTypeOf<readonly ('city' | 'points' | 'seen')[]>()
  })

  test('steps and cases are narrowed by their predicates', () => {
    const all = fromKafka({ topic: 'all', schema: Event, key: (e) => e.who, time: (e) => e.at })
    const found = all.pipe(
      sequence({ steps: { seen: (e) => e.type === 'view', bought: (e) => e.type === 'order' }, within: '1h' }),
      map(({ seen, bought }) => [seen.item, bought.eur] as const),
    )
    expectTypeOf<ValueOf<typeof found>>().toEqualTypeOf<readonly [string, number]>()
    const { orders } = all.split({ orders: (e) => e.type === 'order' })
    const sums = orders.pipe(map((e) => e.eur))
    expectTypeOf<ValueOf<typeof sums>>().toEqualTypeOf<number>()
    const routed = all.pipe(
      route({ orders: (e) => e.type === 'order' }),
      map((e) => (e.from === 'orders' ? e.value.eur : e.value.who)),
    )
    expectTypeOf<ValueOf<typeof routed>>().toEqualTypeOf<string | number>()
    const steps = all.pipe(
      series({ after: (e) => e.type === 'view', steps: { hello: '1h', tip: '3d' }, unless: (e) => e.type === 'order' }),
      map((e) => [e.step, e.value.item] as const),
    )
    expectTypeOf<ValueOf<typeof steps>>().toEqualTypeOf<readonly ['hello' | 'tip', string]>()
  })

  test('merge with names is told apart by them', () => {
    const both = merge({ shop, pages }).pipe(map((e) => (e.from === 'shop' ? e.value.who : e.value.url)))
    expectTypeOf<ValueOf<typeof both>>().toEqualTypeOf<string>()
    const plain = merge(shop, pages)
    expectTypeOf<ValueOf<typeof plain>>().toEqualTypeOf<Shop | { url: string; seen: Date }>()
  })

  test('a pipeline knows the rows of its outputs by their names', () => {
    const made = pipeline('typed', {
      events: shop.to(clickhouse({ table: 'shop', orderBy: ['at'] })),
      mails: shop.pipe(map((e) => ({ to: e.who }))).to(esp({ event: 'x', recipient: (m) => m.to, expiresAfter: '1h' })),
    })
    expectTypeOf(made.outputs.events).toEqualTypeOf<Output<Shop>>()
    expectTypeOf(made.outputs.mails).toEqualTypeOf<Output<{ to: string }>>()
  })

  test('every operator is one of RxJS', () => {
    const given = of<Shop>().pipe(
      dedup({ by: (e) => e.id, within: '1d' }),
      rxMap((e) => e.at),
    )
    expectTypeOf(given.subscribe).parameter(0).not.toBeAny()
    given.subscribe((at) => expectTypeOf(at).toEqualTypeOf<number>())
  })
})
