import { pipeline } from 'millrace'
import { tap } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const later: string[] = []
const rows = events.pipe(
  tap((e) => {
    setTimeout(() => later.push(e.id), 1_000)
  }),
)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
