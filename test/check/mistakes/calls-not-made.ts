import { pipeline } from 'millrace'
import { mapAsync } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(mapAsync(async (e) => ({ id: e.id, answer: await fetch('https://example.com') })))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
