import { randomUUID } from 'node:crypto'
import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const named = <T extends object>(e: T) => ({ ...e, name: randomUUID() })
const rows = events.pipe(map(named))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
