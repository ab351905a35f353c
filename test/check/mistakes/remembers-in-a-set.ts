import { pipeline } from 'millrace'
import { filter } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const seen = new Set<string>()
const rows = events.pipe(filter((e) => !seen.has(e.id) && seen.add(e.id).size > 0))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
