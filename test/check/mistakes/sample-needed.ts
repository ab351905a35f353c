import { pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'

const Odd = z.object({ id: z.string().regex(/^[A-Z]{3}-[0-9]{9}$/), at: z.number() })
const events = fromKafka({
  topic: 'events',
  schema: Odd,
  key: (e) => e.id,
  time: (e) => e.at,
})
export const mine = pipeline('mine', { rows: events.to(file({ path: 'rows.jsonl' })) })
