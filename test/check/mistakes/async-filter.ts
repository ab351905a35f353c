import { pipeline } from 'millrace'
import { filter } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const known = async (id: string) => id !== ''
const rows = events.pipe(filter(async (e) => known(e.id)))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
