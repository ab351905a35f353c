import { pipeline } from 'millrace'
import { filter } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(filter(() => Math.random() < 0.1))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
