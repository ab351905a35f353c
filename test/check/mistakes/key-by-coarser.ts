import { pipeline } from 'millrace'
import { filter, keyBy, repartition, scan } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'

const Event = z.object({
  who: z.string(),
  country: z.enum(['de', 'fr']),
  amount: z.number().positive(),
  at: z.int().positive(),
})

const events = fromKafka({
  topic: 'e',
  partitions: 4,
  schema: Event,
  key: (e) => e.who,
  time: (e) => e.at,
  lateness: '1m',
})
const countries = events.pipe(
  filter((e) => e.amount > 1),
  keyBy((e) => e.country),
  scan({ seed: 0, step: (sum, e) => sum + e.amount, ttl: '1d' }),
)
const devices = events.pipe(
  keyBy((e) => `${e.who} ${e.country}`),
  scan({ name: 'finer', seed: 0, step: (sum, e) => sum + e.amount, ttl: '1d' }),
)
const moved = events.pipe(
  repartition((e) => e.country),
  scan({ name: 'moved', seed: 0, step: (sum, e) => sum + e.amount, ttl: '1d' }),
)
export const mine = pipeline('mine', {
  countries: countries.to(file({ path: 'rows.jsonl' })),
  moved: moved.to(file({ path: 'moved.jsonl' })),
  devices: devices.to(file({ path: 'devices.jsonl' })),
})
