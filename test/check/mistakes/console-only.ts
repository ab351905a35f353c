import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { console as lines } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(map((e) => e.amount))
export const mine = pipeline('mine', {
  rows: rows.to(lines()),
})
