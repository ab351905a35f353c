import { type Pipeline, pipeline, type Stream } from 'millrace'
import { absence, dedup, filter, map, scan } from 'millrace/operators'
import { clickhouse } from 'millrace/sinks'
import { fromFile } from 'millrace/sources'
import { ShopEvent } from '../pipelines/schemas/shop-event.ts'

interface CartEvent {
  readonly type: 'view' | 'addtocart' | 'transaction'
  readonly itemId: string
}

/** The carts that were left for half an hour. */
export function abandonedCarts(events: Stream<CartEvent>) {
  return events.pipe(
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
}

export const eventTable = { table: 'events', orderBy: ['occurredAt', 'visitorId'] } as const
export const cartTable = {
  table: 'carts',
  columns: { visitorId: 'String', items: 'Array(String)', abandonedAt: 'DateTime64(3)' },
} as const

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
  return pipeline('bench', {
    events: events.to(clickhouse(eventTable)),
    carts: abandonedCarts(events).to(clickhouse(cartTable)),
  })
}
