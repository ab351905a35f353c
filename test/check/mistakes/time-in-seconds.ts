import { pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { Event } from './events.ts'

const events = fromKafka({
  topic: 'events',
  schema: Event,
  key: (e) => e.who,
  time: (e) => e.at,
})
export const mine = pipeline('mine', { rows: events.to(file({ path: 'rows.jsonl' })) })
