import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

let count = 0
const rows = events.pipe(map((e) => ({ id: e.id, number: ++count })))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
