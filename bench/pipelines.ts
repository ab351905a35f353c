import { type Pipeline, pipeline } from 'millrace'
import { absence, dedup, filter, map, scan } from 'millrace/operators'
import { clickhouse } from 'millrace/sinks'
import { fromFile } from 'millrace/sources'
import { ShopEvent } from '../pipelines/schemas/shop-event.ts'

/** The main job from a file to the warehouse: parse, schema, dedup, carts, exactly once. */
export function cartsToWarehouse(path: string): Pipeline {
  const events = fromFile({
    name: 'shop.events',
    path,
    schema: ShopEvent,
    key: (e) => e.visitorId,
    time: (e) => e.occurredAt,
    lateness: '1m',
  }).pipe(dedup({ by: (e) => e.eventId, within: '24h' }))
  const carts = events.pipe(
    filter((e) => e.type !== 'view'),
    scan({
      name: 'cart',
      seed: { items: [] as string[], type: '' },
      step: (cart, e) => {
        if (e.type === 'addtocart')
          return { items: [...cart.items.filter((item) => item !== e.itemId), e.itemId].slice(-20), type: e.type }
        return { items: [], type: e.type }
      },
      ttl: '7d',
    }),
    absence({ after: (c) => c.type === 'addtocart', unless: (c) => c.type === 'transaction', within: '30m' }),
    map(({ key, value, at }) => ({ visitorId: key, items: value.items, abandonedAt: at })),
  )
  return pipeline('bench', {
    events: events.to(clickhouse({ table: 'events', orderBy: ['occurredAt', 'visitorId'] })),
    carts: carts.to(
      clickhouse({
        table: 'carts',
        columns: { visitorId: 'String', items: 'Array(String)', abandonedAt: 'DateTime64(3)' },
      }),
    ),
  })
}
