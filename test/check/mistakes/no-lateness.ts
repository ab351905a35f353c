import { pipeline } from 'millrace'
import { absence } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { Event } from './events.ts'

const events = fromKafka({ topic: 'events', schema: Event, key: (e) => e.who, time: (e) => e.at })
const rows = events.pipe(absence({ after: (e) => e.type === 'cart', unless: (e) => e.type === 'buy', within: '30m' }))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
