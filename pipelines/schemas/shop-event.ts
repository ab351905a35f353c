import { z } from 'zod'

/** What a visitor of the shop does. Flat: `type` does not discriminate, so that every event fits one warehouse table. */
export const ShopEvent = z.object({
  eventId: z.string(),
  visitorId: z.string(),
  type: z.enum(['view', 'addtocart', 'transaction']),
  itemId: z.string(),
  transactionId: z.string().nullable(),
  /** Epoch milliseconds. */
  occurredAt: z.int().positive(),
})

export type ShopEvent = z.infer<typeof ShopEvent>
