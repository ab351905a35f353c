import { pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { scan } from 'rxjs'
import { events } from './events.ts'

const rows = events.pipe(scan((sum, e) => sum + e.amount, 0))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
