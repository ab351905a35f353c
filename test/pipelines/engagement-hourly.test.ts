import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { testPipeline } from 'millrace/testing'
import { expect, test } from 'vitest'
import { engagementHourly } from '../../pipelines/engagement-hourly.ts'
import { fileSource } from '../../sources/file.ts'
import { asked } from '../support/ask.ts'
import { runToEnd } from '../support/run.ts'

const SAMPLES = join(import.meta.dirname, '../../pipelines/samples')
const pathOf = (name: string) => join(SAMPLES, `${name}.jsonl`)
const read = (name: string, id: string): any[] => {
  const all = readFileSync(pathOf(name), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  return [...new Map(all.map((each) => [each[id], each])).values()]
}
const HOUR = 3_600_000
const hourOf = (time: number) => Math.floor(time / HOUR) * HOUR

test('the samples become the hours that a few plain lines count of all of them at once', async () => {
  const mails = read('esp-events', 'eventId')
  const orders = read('shop-orders', 'orderId')
  const counted = [...Map.groupBy(mails, ({ campaign, at }) => `${campaign} ${hourOf(at)}`).values()].map((all) => ({
    campaign: all[0].campaign,
    hour: hourOf(all[0].at),
    delivered: all.filter(({ type }) => type === 'delivered').length,
    opens: all.filter(({ type }) => type === 'open').length,
    clicks: all.filter(({ type }) => type === 'click').length,
    people: new Set(all.map(({ personId }) => personId)).size,
  }))
  const led = orders.filter(({ personId, at }) =>
    mails.some(
      (each) => each.type === 'click' && each.personId === personId && at >= each.at && at <= each.at + 2 * HOUR,
    ),
  )
  const dataDir = mkdtempSync(join(tmpdir(), 'millrace-engagement-'))
  try {
    const status = await runToEnd(engagementHourly, dataDir, {
      'esp.events': fileSource({ path: pathOf('esp-events') }),
      'shop.orders': fileSource({ path: pathOf('shop-orders') }),
    })
    expect(status).toMatchObject({ state: 'ended', deadLetters: 0, late: 0 })
    const given = await asked(
      dataDir,
      'SELECT campaign, toUnixTimestamp64Milli(hour) AS hour, delivered, opens, clicks, people FROM engagement_hourly FINAL',
    )
    const order = (list: any[]) => list.map((each) => JSON.stringify({ ...each, hour: Number(each.hour) })).sort()
    expect(order(given)).toEqual(order(counted))
    const [sum] = await asked(
      dataDir,
      'SELECT toUInt32(sum(orders)) AS orders, round(sum(revenue), 2) AS revenue FROM revenue_hourly FINAL',
    )
    expect(sum.orders).toBe(led.length)
    expect(sum.revenue).toBeCloseTo(
      led.reduce((total, { total: eur }) => total + eur, 0),
      2,
    )
    expect(led.length).toBeGreaterThan(20)
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})

const at = (minute: number) => Date.UTC(2026, 2, 2, 9, minute)
const mail = (eventId: string, type: string, minute: number) => ({
  eventId,
  personId: 'ann',
  campaign: 'spring',
  type,
  at: at(minute),
})

test('an order counts for the click before it, once, and not three hours later', async () => {
  const t = await testPipeline(engagementHourly)
  await t.feed('esp.events', [mail('1', 'click', 0), mail('2', 'click', 30)])
  await t.feed('shop.orders', [
    { orderId: 'a', personId: 'ann', total: 20, at: at(40) },
    { orderId: 'b', personId: 'ann', total: 50, at: at(200) },
  ])
  await t.end()
  expect(t.rows('revenue')).toMatchObject([{ campaign: 'spring', orders: 1, revenue: 20 }])
  expect(t.rows('engagement')).toMatchObject([{ campaign: 'spring', clicks: 2, people: 1, revision: 0 }])
  await t.everySplit()
})

test('a click that is reported hours late corrects its hour', async () => {
  const t = await testPipeline(engagementHourly)
  await t.feed('esp.events', [mail('1', 'open', 0), mail('2', 'open', 300), mail('3', 'click', 10)])
  await t.end()
  const nine = t.rows('engagement').filter(({ hour }) => hour === at(0))
  expect(nine.map(({ revision, opens, clicks }) => [revision, opens, clicks])).toEqual([
    [0, 1, 0],
    [1, 1, 1],
  ])
})
