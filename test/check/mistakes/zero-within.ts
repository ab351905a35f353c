import { pipeline } from 'millrace'
import { dedup } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(dedup({ by: (e) => e.id, within: '0s' }))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
