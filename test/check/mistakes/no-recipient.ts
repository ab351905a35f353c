import { pipeline } from 'millrace'
import { dedup } from 'millrace/operators'
import { esp } from 'millrace/sinks'
import { events } from './events.ts'

const once = events.pipe(dedup({ by: (e) => e.id, within: '1d' }))
export const mine = pipeline('mine', {
  mails: once.to(esp({ event: 'Hello', recipient: (e) => e.mail as string, expiresAfter: '1d' })),
})
