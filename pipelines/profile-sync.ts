import { merge, pipeline } from 'millrace'
import { map, patch, reconcile } from 'millrace/operators'
import { clickhouse, redis } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { CrmRow, Order, WebEvent } from './schemas/person.ts'

const web = fromKafka({
  topic: 'web.events',
  schema: WebEvent,
  key: (e) => e.personId,
  time: (e) => e.at,
  lateness: '5m',
})
const crm = fromKafka({
  topic: 'crm.people',
  schema: CrmRow,
  key: (p) => p.personId,
  time: (p) => p.at,
  lateness: '5m',
})
const orders = fromKafka({
  topic: 'shop.orders',
  schema: Order,
  key: (o) => o.personId,
  time: (o) => o.at,
  lateness: '5m',
})

/** One profile a person, of all that three systems say: the same in the end, whatever order it comes in. */
const people = merge({
  crm: crm.pipe(
    patch((p) => (p.deleted ? {} : { email: p.email, country: p.country, segments: p.segments }), {
      version: (p) => p.lsn,
      deleted: (p) => p.deleted,
    }),
  ),
  shop: orders.pipe(patch((o) => ({ lastOrder: o.total, lastSeen: o.at }))),
  web: web.pipe(patch((e) => ({ lastSeen: e.at, country: e.country ?? undefined }))),
}).pipe(
  reconcile({
    trust: ['crm', 'shop', 'web'],
    fields: { lastSeen: 'max', email: { only: 'crm' } },
    tombstones: '90d',
    future: '1h',
  }),
)

export const profileSync = pipeline('profile-sync', {
  cache: people.to(
    redis({
      key: (p) => `profile:${p.key}`,
      value: (p) => p.record,
      version: (p) => p.version,
      deleted: (p) => p.deleted,
      ttl: '365d',
    }),
  ),
  profiles: people
    .pipe(
      map(({ key, record, deleted, version }) => ({
        personId: key,
        email: record.email ?? null,
        country: record.country ?? null,
        segments: record.segments ?? [],
        lastSeen: record.lastSeen ?? null,
        lastOrder: record.lastOrder ?? null,
        version,
        deleted,
      })),
    )
    .to(
      clickhouse({
        table: 'profiles',
        columns: {
          personId: 'String',
          email: 'Nullable(String)',
          country: 'Nullable(String)',
          segments: 'Array(String)',
          lastSeen: 'Nullable(DateTime64(3))',
          lastOrder: 'Nullable(Float64)',
          version: 'UInt64',
          deleted: 'Bool',
        },
        orderBy: ['personId'],
        replace: { version: 'version', deleted: 'deleted' },
      }),
    ),
  rejected: people
    .side('rejected')
    .pipe(
      map(({ value, field, reason }, meta) => ({
        personId: meta.key,
        source: value.from,
        field,
        reason,
        at: meta.time,
      })),
    )
    .to(
      clickhouse({
        table: 'profile_rejections',
        columns: { personId: 'String', source: 'String', field: 'String', reason: 'String', at: 'DateTime64(3)' },
      }),
    ),
})
