import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { pipeline } from '../../core/index.ts'
import { dedup, filter, joinAsOf, keyBy, map, tumbling } from '../../operators/index.ts'
import { ShopEvent } from '../../pipelines/schemas/shop-event.ts'
import { clickhouse, file } from '../../sinks/index.ts'
import { fileSource, fromFile, fromKafka } from '../../sources/index.ts'
import { asked } from '../support/ask.ts'
import { runToEnd } from '../support/run.ts'

const DATA = join(import.meta.dirname, '../../../shared/data')
let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-real-'))
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

describe('windows over the real events of a shop', () => {
  test('visitors a day and events an hour are what one query over the rows says', async () => {
    const events = fromKafka({
      topic: 'shop.events',
      schema: ShopEvent,
      key: (e) => e.visitorId,
      time: (e) => e.occurredAt,
      lateness: '1m',
    }).pipe(dedup({ by: (e) => e.eventId, within: '24h' }))
    const daily = events.pipe(
      keyBy(() => 'all'),
      tumbling({
        name: 'daily',
        size: '1d',
        aggregate: (a) => ({ visitors: a.distinct((e) => e.visitorId), events: a.count() }),
      }),
    )
    const hourly = events.pipe(
      keyBy((e) => e.type),
      tumbling({ name: 'hourly', size: '1h', aggregate: (a) => ({ events: a.count() }) }),
    )
    const status = await runToEnd(
      pipeline('real-windows', {
        events: events.to(clickhouse({ table: 'events' })),
        daily: daily
          .pipe(map(({ start, visitors, events }) => ({ start, visitors, events })))
          .to(
            clickhouse({ table: 'daily', columns: { start: 'DateTime64(3)', visitors: 'UInt32', events: 'UInt32' } }),
          ),
        hourly: hourly
          .pipe(map(({ key, start, events }) => ({ type: key, start, events })))
          .to(clickhouse({ table: 'hourly', columns: { type: 'String', start: 'DateTime64(3)', events: 'UInt32' } })),
      }),
      dataDir,
      { 'shop.events': fileSource({ path: join(DATA, 'retailrocket_dirty.jsonl') }) },
    )
    expect(status).toMatchObject({ read: 9_600, late: 0, deadLetters: 25 })
    const hours = 'intDiv(occurredAt, 3600000)'
    const exact = await asked(
      dataDir,
      `SELECT toString(type) AS type, toUInt32(${hours}) AS hour, toUInt32(count()) AS events FROM events GROUP BY type, hour ORDER BY type, hour`,
    )
    const given = await asked(
      dataDir,
      'SELECT type, toUInt32(intDiv(toUnixTimestamp64Milli(start), 3600000)) AS hour, events FROM hourly ORDER BY type, hour',
    )
    expect(given).toEqual(exact)
    expect(given.length).toBeGreaterThan(100)
    const days = await asked(
      dataDir,
      'SELECT toUInt32(intDiv(occurredAt, 86400000)) AS day, toUInt32(uniqExact(visitorId)) AS visitors, toUInt32(count()) AS events FROM events GROUP BY day ORDER BY day',
    )
    const counted = await asked(
      dataDir,
      'SELECT toUInt32(intDiv(toUnixTimestamp64Milli(start), 86400000)) AS day, visitors, events FROM daily ORDER BY day',
    )
    expect(counted).toEqual(days)
    expect(days.length).toBeGreaterThan(30)
  }, 120_000)
})

describe('joins over the real orders of a shop', () => {
  const Line = z.object({
    InvoiceNo: z.string().regex(/^\w+$/),
    StockCode: z.string(),
    Quantity: z.coerce.number(),
    UnitPrice: z.coerce.number(),
    CustomerID: z.string(),
    InvoiceDate: z.string().regex(/^\d\d\/\d\d\/\d{4} \d\d:\d\d$/),
  })
  const PATH = join(DATA, 'online_retail_2010-12.csv')
  const timeOf = (text: string) => {
    const [day, month, year, hour, minute] = text.split(/[/ :]/).map(Number)
    return Date.UTC(year!, month! - 1, day, hour, minute)
  }

  test('each line meets the first invoice of its customer', async () => {
    const lines = fromFile({
      name: 'lines',
      path: PATH,
      encoding: 'windows-1252',
      schema: Line,
      key: (e) => e.CustomerID || 'nobody',
      time: (e) => timeOf(e.InvoiceDate),
      lateness: '1d',
    }).pipe(filter((e) => e.CustomerID !== ''))
    const firsts = lines.pipe(dedup({ name: 'first-invoice', within: '3650d' }))
    const joined = lines.pipe(
      joinAsOf(firsts, { history: '3650d' }),
      map(({ left, right }) => ({
        line: `${left.InvoiceNo} ${left.StockCode} ${left.Quantity}`,
        first: right.InvoiceNo,
      })),
    )
    const out = join(dataDir, 'joined.jsonl')
    const status = await runToEnd(pipeline('real-joins', { joined: joined.to(file({ path: out })) }), dataDir, {})
    const given = readFileSync(out.replace('.jsonl', '-0.jsonl'), 'utf8').trimEnd().split('\n')

    const rows = readFileSync(PATH, 'latin1')
      .trimEnd()
      .split('\n')
      .slice(1)
      .map((line) => [...line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|\r?$)/g)].map((match) => match[1]!))
      .filter((fields) => fields.length >= 8 && /^\d\d\/\d\d\/\d{4} \d\d:\d\d$/.test(fields[4]!) && fields[6] !== '')
    const first = new Map<string, string>()
    for (const [invoice, , , , , , customer] of rows) if (!first.has(customer!)) first.set(customer!, invoice!)
    const wanted = rows.map(([invoice, stock, , quantity, , , customer]) =>
      JSON.stringify({ line: `${invoice} ${stock} ${Number(quantity)}`, first: first.get(customer!) }),
    )
    expect(status.late).toBe(0)
    expect(given.sort()).toEqual(wanted.sort())
    expect(given.length).toBeGreaterThan(20_000)
  }, 120_000)
})
