import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(map((e) => e.amount))
export const mine = pipeline('My Pipeline', { rows: rows.to(file({ path: 'rows.jsonl' })) })
