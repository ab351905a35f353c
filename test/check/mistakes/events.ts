import { fromKafka } from 'millrace/sources'
import { z } from 'zod'

export const Event = z.object({
  id: z.string(),
  who: z.string(),
  mail: z.string().optional(),
  type: z.enum(['view', 'cart', 'buy']),
  country: z.enum(['de', 'fr']),
  amount: z.number().nonnegative(),
  tags: z.array(z.string()).min(1),
  at: z.int().positive(),
})

export const events = fromKafka({
  topic: 'events',
  schema: Event,
  key: (e) => e.who,
  time: (e) => e.at,
  lateness: '1m',
})
