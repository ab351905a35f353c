import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const asked = (id: string): any => Promise.resolve(id.length)
const rows = events.pipe(map((e) => asked(e.id)))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
