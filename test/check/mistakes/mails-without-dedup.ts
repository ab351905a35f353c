import { pipeline } from 'millrace'
import { filter } from 'millrace/operators'
import { esp } from 'millrace/sinks'
import { events } from './events.ts'

const bought = events.pipe(filter((e) => e.type === 'buy'))
export const mine = pipeline('mine', {
  mails: bought.to(esp({ event: 'Thanks', recipient: (e) => e.who, expiresAfter: '1d' })),
})
