import { appendFileSync } from 'node:fs'
import { pipeline } from 'millrace'
import { tap } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(tap((e) => appendFileSync('debug.log', e.id)))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
