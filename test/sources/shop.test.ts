import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { pipeline } from '../../core/pipeline.ts'
import type { Runtime } from '../../core/runtime.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { absence } from '../../operators/absence.ts'
import { dedup } from '../../operators/dedup.ts'
import { ShopEvent } from '../../pipelines/schemas/shop-event.ts'
import { file } from '../../sinks/file.ts'
import { fromShop, type ShopStreamOptions, shopSource } from '../../sources/shop.ts'
import { generateShop, shopItem } from '../../sources/shop-generator.ts'
import { abandonedCarts } from '../support/carts.ts'
import { runToEnd } from '../support/run.ts'
import { connectorContext } from '../support/sink-suite.ts'
import { readAll, sourceSuite } from '../support/source-suite.ts'

const root = mkdtempSync(join(tmpdir(), 'millrace-shop-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const parsed = (line: string) => {
  const result = (() => {
    try {
      return ShopEvent.safeParse(JSON.parse(line))
    } catch {
      return undefined
    }
  })()
  return result?.success ? result.data : undefined
}

sourceSuite('a shop', async () => {
  const lines = [...generateShop({ seed: 3, events: 60, malformed: 0.2 })]
  let seed = 3
  let events = 60
  return {
    source: () => shopSource({ seed, events, malformed: 0.2 }),
    context: connectorContext(root),
    records: () => [lines.map((line) => Buffer.from(line))],
    values: () =>
      lines.map((line) => {
        try {
          return JSON.parse(line) as unknown
        } catch (error) {
          return error
        }
      }),
    change: async () => {
      seed = 4
      events = 60
    },
    close: async () => undefined,
  }
})

describe('the lines', () => {
  const lines = [...generateShop({ seed: 1, events: 60_000 })]
  const events = lines.map(parsed).filter((event) => event !== undefined)

  test('are the same for the same seed, and others for another', () => {
    expect([...generateShop({ seed: 1, events: 1_000 })]).toEqual(lines.slice(0, 1_000))
    expect([...generateShop({ seed: 2, events: 1_000 })].filter((line) => lines.includes(line))).toEqual([])
  })

  test('hold carts and purchases, repeats, disorder and malformed ones, about as often as is said', () => {
    const share = (count: number) => count / lines.length
    expect(lines).toHaveLength(60_000)
    expect(share(lines.length - events.length)).toBeGreaterThan(0.0018)
    expect(share(lines.length - events.length)).toBeLessThan(0.0033)
    const ids = new Set(events.map((event) => event.eventId))
    expect(share(events.length - ids.size)).toBeGreaterThan(0.016)
    expect(share(events.length - ids.size)).toBeLessThan(0.024)
    const of = (type: string) => share(events.filter((event) => event.type === type).length)
    expect(of('addtocart')).toBeGreaterThan(0.02)
    expect(of('addtocart')).toBeLessThan(0.04)
    expect(of('transaction')).toBeGreaterThan(0.004)
    expect(of('transaction')).toBeLessThan(of('addtocart') / 2)
    let newest = 0
    let late = 0
    let latest = 0
    for (const { occurredAt } of events) {
      if (occurredAt < newest) late++
      latest = Math.max(latest, newest - occurredAt)
      newest = Math.max(newest, occurredAt)
    }
    expect(share(late)).toBeGreaterThan(0.03)
    expect(latest).toBeGreaterThan(15_000)
    expect(latest).toBeLessThanOrEqual(31_000)
  })

  test('tell of visits: who buys has put something into the cart before', () => {
    const carts = new Map<string, number>()
    const sorted = events.toSorted((a, b) => a.occurredAt - b.occurredAt)
    for (const { type, visitorId, occurredAt } of sorted) {
      if (type === 'addtocart') carts.set(visitorId, occurredAt)
      if (type === 'transaction') expect(carts.get(visitorId), visitorId).toBeLessThan(occurredAt)
    }
    expect(carts.size).toBeGreaterThan(500)
    expect(shopItem(sorted[0]!.itemId)).toEqual(shopItem(sorted[0]!.itemId))
    expect(shopItem(sorted[0]!.itemId).price).toBeGreaterThan(0)
  })

  test('of several partitions share no visitor and no event', async () => {
    const open = await shopSource({ seed: 1, events: 9_001, partitions: 3 }).open(connectorContext(root), {
      untilEnd: true,
    })
    const seen = await Promise.all(
      [0, 1, 2].map(async (index) =>
        (await readAll(await open.reader(index, undefined)))
          .map(({ value }) => parsed(value as string))
          .filter((event) => event !== undefined),
      ),
    )
    expect(seen.flat().length).toBeGreaterThan(8_900)
    for (const field of ['visitorId', 'eventId'] as const) {
      const sets = seen.map((some) => new Set(some.map((event) => event[field])))
      expect(new Set(sets.flatMap((set) => [...set])).size).toBe(sets.reduce((sum, set) => sum + set.size, 0))
    }
  })
})

/** A clock that moves when somebody sleeps. */
function clock(): Runtime {
  let now = 0
  return {
    ...systemRuntime,
    elapsed: () => now,
    sleep: async (ms) => {
      now += ms
    },
  }
}

test('a rate is kept, and waited for', async () => {
  const runtime = clock()
  const open = await shopSource({ seed: 1, events: 500, rate: 100 }).open(connectorContext(root, { runtime }), {
    untilEnd: true,
  })
  const reader = await open.reader(0, undefined)
  expect(await reader.read({ records: 99, bytes: 1e6 })).toEqual([])
  expect(await reader.lag()).toBe(0)
  let read = 0
  for (let records = await reader.read({ records: 1e3, bytes: 1e6 }); records !== null; ) {
    read += records.length
    expect(read).toBeLessThanOrEqual((runtime.elapsed() / 1_000) * 100)
    await reader.more(new AbortController().signal)
    records = await reader.read({ records: 1e3, bytes: 1e6 })
  }
  expect(read).toBe(500)
  expect(runtime.elapsed()).toBeGreaterThanOrEqual(5_000)
  expect(runtime.elapsed()).toBeLessThan(5_100)
})

test.each([{ rate: 'max' }, { rate: 4_000 }] as const)(
  'a pipeline on it runs to its end at %o, and finds each cart that was left',
  async ({ rate }) => {
    const dataDir = mkdtempSync(join(root, 'run-'))
    const shop: ShopStreamOptions = { seed: 5, events: 6_000, perDay: 2_000 }
    const events = fromShop({
      ...shop,
      rate,
      schema: ShopEvent,
      key: (e) => e.visitorId,
      time: (e) => e.occurredAt,
      lateness: '1m',
    }).pipe(dedup({ by: (e) => e.eventId, within: '24h' }))
    const left = events.pipe(
      absence({ after: (e) => e.type === 'addtocart', unless: (e) => e.type === 'transaction', within: '30m' }),
    )
    const out = join(dataDir, 'left.jsonl')
    const started = performance.now()
    const status = await runToEnd(pipeline('shop', { left: left.to(file({ path: out })) }), dataDir, {})
    if (rate !== 'max') expect(performance.now() - started).toBeGreaterThan(1_400)
    expect(status).toMatchObject({ state: 'ended', read: 6_000 })
    const found = readFileSync(join(dataDir, 'left-0.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { key: string; at: number })
    expect(found.length).toBeGreaterThan(20)
    const valid = [...generateShop(shop)].filter((line) => parsed(line) !== undefined)
    expect(found.length).toBe(abandonedCarts(valid).length)
  },
)

test('without an end it cannot be read until its end', async () => {
  await expect(shopSource({ seed: 1 }).open(connectorContext(root), { untilEnd: true })).rejects.toMatchObject({
    code: 'BAD_OPTION',
  })
})

test.each([
  [{ seed: 1.5 }, /seed must be a whole number/],
  [{ seed: 1, events: 0 }, /events must be a positive whole number/],
  [{ seed: 1, rate: 0 }, /rate must be a positive number of lines a second or 'max'/],
  [{ seed: 1, partitions: 0 }, /partitions must be/],
  [{ seed: 1, malformed: 0.6 }, /malformed must be a part from 0 to 0.5/],
])('wrong options are refused when the pipeline is built: %o', (options, message) => {
  expect(() => shopSource(options)).toThrow(message)
})
