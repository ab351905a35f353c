import { pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { debounceTime as settled } from 'rxjs'
import { events } from './events.ts'

const rows = events.pipe(settled(1_000))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
