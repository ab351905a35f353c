import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'
import { nothing } from './nowhere.ts'

const rows = events.pipe(map((e) => nothing(e)))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
