import { pipeline } from 'millrace'
import { filter, map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

events.pipe(filter((e) => e.type === 'buy'))
const rows = events.pipe(map((e) => e.amount))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
