import { operate, pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const numbered = operate<unknown, number, Record<never, never>>({
  kind: 'numbered',
  start: ({ emit }) => {
    let count = 0
    return { next: () => emit(++count) }
  },
})
const rows = events.pipe(numbered)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
