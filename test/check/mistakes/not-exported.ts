import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(map((e) => e.amount))
const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
export const name = mine.name
