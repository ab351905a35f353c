import { z } from 'zod'

/** What somebody does on the web site. */
export const WebEvent = z.object({
  eventId: z.string(),
  personId: z.string(),
  type: z.enum(['visit', 'country']),
  /** Of a `country` event: what the address says. */
  country: z.string().nullable(),
  at: z.int().positive(),
})

/** A row of the CRM as it was changed; of a deleted one only the key is certain. */
export const CrmRow = z.object({
  personId: z.string(),
  email: z.string().nullable(),
  country: z.string().nullable(),
  segments: z.array(z.string()),
  deleted: z.boolean(),
  /** The place of the change in the database's log. */
  lsn: z.int(),
  at: z.int().positive(),
})

export const Order = z.object({
  orderId: z.string(),
  personId: z.string(),
  total: z.number(),
  at: z.int().positive(),
})

/** What a provider says of a mail that it has sent. */
export const MailEvent = z.object({
  eventId: z.string(),
  personId: z.string(),
  campaign: z.string(),
  type: z.enum(['delivered', 'open', 'click']),
  at: z.int().positive(),
})
