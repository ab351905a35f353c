import { pipeline } from 'millrace'
import { scan } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(scan({ seed: 0, step: (sum, e) => sum + e.amount, ttl: '3650d' }))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
