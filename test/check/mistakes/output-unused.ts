import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file, console as lines } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(map((e) => e.amount))
rows.to(lines())
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
