import { pipeline } from 'millrace'
import { tap } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(
  tap((e) => {
    fetch('https://example.com/hook', { method: 'POST', body: e.id })
  }),
)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
