import { pipeline } from 'millrace'
import { absence, dedup, filter, scan } from 'millrace/operators'
import { clickhouse, esp, redis } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'
import { ShopEvent } from './schemas/shop-event.ts'

const Cart = z.object({ items: z.array(z.string()), type: z.string() })

const events = fromKafka({
  topic: 'shop.events',
  schema: ShopEvent,
  key: (e) => e.visitorId,
  time: (e) => e.occurredAt,
  lateness: '1m',
}).pipe(dedup({ by: (e) => e.eventId, within: '24h' }))

/** Each change of a cart as what it leaves there; who only looks around has none. */
const carts = events.pipe(
  filter((e) => e.type !== 'view'),
  scan({
    name: 'cart',
    state: Cart,
    seed: { items: [], type: '' },
    step: (cart, e) => {
      if (e.type === 'addtocart')
        return { items: [...cart.items.filter((item) => item !== e.itemId), e.itemId].slice(-20), type: e.type }
      return { items: [], type: e.type }
    },
    ttl: '7d',
  }),
)

const abandoned = carts.pipe(
  absence({ after: (c) => c.type === 'addtocart', unless: (c) => c.type === 'transaction', within: '30m' }),
)

export const cartAbandonment = pipeline('cart-abandonment', {
  events: events.to(clickhouse({ table: 'events', orderBy: ['occurredAt', 'visitorId'] })),
  carts: abandoned.to(redis({ key: (c) => `cart:${c.key}`, value: (c) => c.value.items, ttl: '10m' })),
  emails: abandoned.to(
    esp({
      event: 'Cart Abandoned',
      recipient: (c) => c.key,
      properties: (c) => ({ items: c.value.items }),
      expiresAfter: '6h',
    }),
  ),
})
