import { pipeline } from 'millrace'
import { dedup } from 'millrace/operators'
import { esp } from 'millrace/sinks'
import { events } from './events.ts'

const once = events.pipe(dedup({ by: (e) => e.id, within: '1d' }))
export const mine = pipeline('mine', {
  mails: once.to(
    esp({
      event: 'Bought',
      recipient: (e) => e.who,
      properties: (e) => ({ amount: e.amount, sent: new Date().toISOString() }),
      expiresAfter: '1d',
    }),
  ),
})
