import { pipeline, type Sink } from 'millrace'
import { dedup } from 'millrace/operators'
import { events } from './events.ts'

const sms: Sink<unknown> = {
  kind: 'sms',
  guarantee: 'ledger',
  touches: 'people',
  open: async () => {
    throw new Error('not in a test')
  },
}
const once = events.pipe(dedup({ by: (e) => e.id, within: '1d' }))
export const mine = pipeline('mine', { texts: once.to(sms) })
