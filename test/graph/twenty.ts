import { merge, pipeline } from 'millrace'
import { absence, dedup, filter, flatMap, map, mapAsync, scan } from 'millrace/operators'
import { clickhouse, esp, file, console as lines, log, redis } from 'millrace/sinks'
import { fromFile, fromKafka } from 'millrace/sources'
import { z } from 'zod'

const Order = z.object({ id: z.string(), who: z.string(), paid: z.boolean(), at: z.int().positive() })
const orders = fromKafka({ topic: 'orders', schema: Order, key: (e) => e.who, time: (e) => e.at, lateness: '1m' })
const returns = fromFile({ path: 'returns.csv', schema: Order, key: (e) => e.who, time: (e) => e.at, lateness: '1h' })

const once = orders.pipe(dedup({ by: (e) => e.id, within: '24h' }))
const all = merge({ orders: once, 'returns & "claims"': returns })
const known = all.pipe(mapAsync(async (e) => e.value, { name: 'look up <customer>', concurrency: 4, timeout: '5s' }))
const balance = known.pipe(scan({ name: 'balance', seed: 0, step: (sum, e) => sum + (e.paid ? 1 : -1), ttl: '90d' }))
const unpaid = once.pipe(absence({ after: (e) => !e.paid, unless: (e) => e.paid, within: '3d' }))

export const twenty = pipeline('twenty', {
  orders: once.to(clickhouse({ table: 'orders' })),
  late: once.side('late').to(file({ path: 'late.jsonl' })),
  balances: balance.pipe(map((n, meta) => ({ who: meta.key, n }))).to(redis({ key: (e) => e.who, ttl: '1d' })),
  parts: known.pipe(flatMap((e) => [e.id, e.who])).to(lines()),
  paid: known.pipe(filter((e) => e.paid)).to(log({ log: 'paid' })),
  returned: returns
    .pipe(
      filter((e) => e.paid),
      map((e) => ({ id: e.id })),
    )
    .to(file({ path: 'returned.jsonl' })),
  reminders: unpaid.to(esp({ event: 'Pay', recipient: (c) => c.key, expiresAfter: '1d' })),
})
