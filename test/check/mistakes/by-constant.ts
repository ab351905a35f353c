import { pipeline } from 'millrace'
import { dedup } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(dedup({ by: () => 'all', within: '1h' }))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
