import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const stamped = <T extends object>(e: T) => ({
  ...e,
  day: new Date().toISOString().slice(0, 10),
})
const rows = events.pipe(map((e) => stamped(e)))
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
