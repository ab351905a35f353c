import { pipeline } from 'millrace'
import { map } from 'millrace/operators'
import { redis } from 'millrace/sinks'
import { events } from './events.ts'

const rows = events.pipe(map((e) => ({ who: e.who, type: e.type })))
export const mine = pipeline('mine', {
  last: rows.to(redis({ key: (e) => e.who, ttl: 'forever' })),
})
