import { pipeline } from 'millrace'
import { dedup, filter, join, keyBy, map, tumbling } from 'millrace/operators'
import { clickhouse } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { MailEvent, Order } from './schemas/person.ts'

const mails = fromKafka({
  topic: 'esp.events',
  schema: MailEvent,
  key: (e) => e.personId,
  time: (e) => e.at,
  lateness: '10m',
}).pipe(dedup({ by: (e) => e.eventId, within: '24h' }))
const orders = fromKafka({
  topic: 'shop.orders',
  schema: Order,
  key: (o) => o.personId,
  time: (o) => o.at,
  lateness: '10m',
}).pipe(dedup({ name: 'orders', by: (o) => o.orderId, within: '24h' }))

/** Orders that somebody made within two hours of a click, each with the campaign that was clicked. */
const led = mails.pipe(
  filter((e) => e.type === 'click'),
  join(orders, { name: 'click-to-order', after: '2h' }),
  dedup({ name: 'one-campaign-an-order', by: ({ right }) => right.orderId, within: '3h' }),
)

/** The campaign, and not the person, is what is counted by. Both topics have one partition, so each has all of a campaign. */
const hourly = mails.pipe(
  keyBy((e) => e.campaign),
  tumbling({
    name: 'engagement',
    size: '1h',
    grace: '24h',
    aggregate: (a) => ({
      delivered: a.count((e) => e.type === 'delivered'),
      opens: a.count((e) => e.type === 'open'),
      clicks: a.count((e) => e.type === 'click'),
      people: a.distinct((e) => e.personId),
    }),
  }),
)
const revenue = led.pipe(
  keyBy(({ left }) => left.campaign),
  tumbling({
    name: 'revenue',
    size: '1h',
    grace: '24h',
    aggregate: (a) => ({ orders: a.count(), revenue: a.sum(({ right }) => right.total) }),
  }),
)

export const engagementHourly = pipeline('engagement-hourly', {
  engagement: hourly
    .pipe(map(({ key, start, end: _, closed: __, ...counts }) => ({ campaign: key, hour: start, ...counts })))
    .to(
      clickhouse({
        table: 'engagement_hourly',
        columns: {
          campaign: 'String',
          hour: 'DateTime64(3)',
          revision: 'UInt32',
          delivered: 'UInt32',
          opens: 'UInt32',
          clicks: 'UInt32',
          people: 'UInt32',
        },
        orderBy: ['campaign', 'hour'],
        replace: { version: 'revision' },
      }),
    ),
  revenue: revenue
    .pipe(
      map(({ key, start, revision, orders, revenue }) => ({ campaign: key, hour: start, revision, orders, revenue })),
    )
    .to(
      clickhouse({
        table: 'revenue_hourly',
        columns: {
          campaign: 'String',
          hour: 'DateTime64(3)',
          revision: 'UInt32',
          orders: 'UInt32',
          revenue: 'Float64',
        },
        orderBy: ['campaign', 'hour'],
        replace: { version: 'revision' },
      }),
    ),
})
