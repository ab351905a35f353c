import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { file } from 'millrace/sinks'
import * as rx from 'rxjs'
import { events } from './events.ts'

const rows = events.pipe(
  map((e) => e.amount),
  rx.bufferTime(1_000),
)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
