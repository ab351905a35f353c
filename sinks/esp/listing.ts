import type { CapturedMessage } from './message.ts'
import { escaped, moment, page } from './page.ts'

/** A message as the listing shows it. */
export interface Listed
  extends Pick<CapturedMessage, 'event' | 'recipient' | 'time' | 'pipeline' | 'sink' | 'expired'> {
  /** Its place in the outbox, without the ending. */
  readonly path: string
}

/** How many messages an output has in the outbox. */
export interface Tally {
  readonly pipeline: string
  readonly sink: string
  readonly messages: number
  readonly expired: number
}

const grouped = new Intl.NumberFormat('en-GB')
const count = (n: number, thing: string) => `${grouped.format(n)} ${thing}${n === 1 ? '' : 's'}`

/** The outbox's first page: how many messages there are, and the newest of them. */
export function listing(newest: readonly Listed[], tallies: readonly Tally[]): string {
  const total = tallies.reduce((sum, { messages }) => sum + messages, 0)
  const outputs = tallies.map(({ pipeline, sink, messages, expired }) => {
    const late = expired > 0 ? `, ${grouped.format(expired)} of them expired` : ''
    return `<dt>${escaped(pipeline)} → ${escaped(sink)}</dt><dd>${count(messages, 'message')}${late}</dd>`
  })
  const rows = newest.map(({ event, recipient, time, pipeline, sink, expired, path }) => {
    const badge = expired ? ' <span class="badge late">Expired</span>' : ''
    const link = `<a href="${escaped(encodeURI(path))}.html">${escaped(event)}</a>`
    return `<tr><td>${link}${badge}</td><td>${escaped(recipient)}</td><td>${escaped(pipeline)} → ${escaped(sink)}</td><td class="when">${moment(time)}</td></tr>`
  })
  const late = tallies.some(({ expired }) => expired > 0)
    ? '<p class="note">Expired: it was past its time when it was its turn, as in a run over the past. A live run would not have sent it; here it is kept, so that all is counted.</p>\n'
    : ''
  const rest = total > newest.length ? `, the newest ${grouped.format(newest.length)} by the time of their cause` : ''
  return page(
    `Outbox: ${count(total, 'message')}`,
    `<header>
<span class="badge">Captured, not sent</span>
<h1>Outbox</h1>
<p class="to"><strong>${count(total, 'message')}</strong> that a live run would hand to the email provider. Nobody has received them.</p>
</header>
${late}<section class="card"><dl>${outputs.join('\n')}</dl></section>
<section class="card"><h2>Messages${rest}</h2>
<table><thead><tr><th>Event</th><th>Recipient</th><th>Output</th><th>Caused at</th></tr></thead>
<tbody>${rows.join('\n')}</tbody></table>
</section>`,
    { wide: true },
  )
}
