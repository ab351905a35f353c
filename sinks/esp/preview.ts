import type { CapturedMessage } from './message.ts'
import { escaped, moment, page } from './page.ts'

/** Bounds of what a page shows; the `.json` beside it has everything. */
const MOST_ROWS = 100
const MOST_COLUMNS = 10
const MOST_TEXT = 2_000
const DEEPEST = 5

/** The page that shows one captured message: to whom, what, when and why, and everything it was given. */
export function preview(message: CapturedMessage): string {
  const { event, recipient, time, expiresAt, cause, key, pipeline, sink, capturedAt, expired, properties } = message
  const facts = [
    ['Caused by', `<code>${escaped(cause)}</code>`],
    ['Caused at', moment(time)],
    ['Worth sending until', moment(expiresAt)],
    ['Captured at', moment(capturedAt)],
    ['Pipeline', `${escaped(pipeline)} → ${escaped(sink)}`],
    ['Send key', `<code>${escaped(key)}</code>`],
  ]
  const late = expired
    ? `<p class="note">A live run would not have sent this message: it was past its time when its turn came. It is kept here so that the outbox counts everything.</p>`
    : ''
  return page(
    `${event} – ${recipient}`,
    `<header>
<span class="badge">Captured, not sent</span>${expired ? '<span class="badge late">Expired</span>' : ''}
<h1>${escaped(event)}</h1>
<p class="to">to <strong>${escaped(recipient)}</strong></p>
</header>
${late}
<section class="card"><h2>What it says</h2>
${Object.keys(properties).length === 0 ? '<p class="none">No properties were given.</p>' : shown(properties)}
</section>
<section class="card"><h2>Why it was made</h2>
<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join('\n')}</dl>
</section>
<footer><a href="../../index.html">All messages</a></footer>`,
  )
}

/** Any JSON value: objects as lists of fields, lists of objects as tables, pictures and links where a text is one. */
function shown(value: unknown, name = '', depth = 0): string {
  if (value === null || value === undefined) return '<span class="none">–</span>'
  if (typeof value === 'string') return text(value, name)
  if (typeof value !== 'object') return escaped(String(value))
  if (depth >= DEEPEST) return `<code>${escaped(cut(JSON.stringify(value)))}</code>`
  if (Array.isArray(value)) return list(value, name, depth + 1)
  const fields = Object.entries(value)
  if (fields.length === 0) return '<span class="none">nothing</span>'
  const rows = fields.slice(0, MOST_ROWS).map(([field, content]) => {
    return `<dt>${escaped(field)}</dt><dd>${shown(content, field, depth + 1)}</dd>`
  })
  return `<dl>${rows.join('\n')}</dl>${more(fields.length, 'fields')}`
}

function list(values: readonly unknown[], name: string, depth: number): string {
  if (values.length === 0) return '<span class="none">nothing</span>'
  const some = values.slice(0, MOST_ROWS)
  if (!some.every(isRecord)) {
    const items = some.map((value) => `<li>${shown(value, name, depth)}</li>`)
    return `<ul>${items.join('\n')}</ul>${more(values.length, 'entries')}`
  }
  const columns = [...new Set(some.flatMap((row) => Object.keys(row)))].slice(0, MOST_COLUMNS)
  const number = columns.map((column) => some.every((row) => typeof (row[column] ?? 0) === 'number'))
  const side = (n: number) => (number[n] ? ' class="n"' : '')
  const head = columns.map((column, n) => `<th${side(n)}>${escaped(column)}</th>`).join('')
  const rows = some.map((row) => {
    const cells = columns.map((column, n) => `<td${side(n)}>${shown(row[column], column, depth + 1)}</td>`)
    return `<tr>${cells.join('')}</tr>`
  })
  return `<table><thead><tr>${head}</tr></thead><tbody>${rows.join('\n')}</tbody></table>${more(values.length, 'rows')}`
}

function text(value: string, name: string): string {
  const picture = /^(https?:\/\/|data:image\/(png|jpeg|gif|webp);base64,)/i.test(value)
  const named = /image|img|photo|picture|thumb/i.test(name) || /\.(png|jpe?g|gif|webp|avif)(\?[^#]*)?$/i.test(value)
  if (picture && named) return `<img src="${escaped(value)}" alt="" loading="lazy">`
  if (/^https?:\/\/\S+$/i.test(value)) return `<a href="${escaped(value)}" rel="noreferrer">${escaped(cut(value))}</a>`
  return escaped(cut(value)).replaceAll('\n', '<br>')
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0

const cut = (value: string) => (value.length > MOST_TEXT ? `${value.slice(0, MOST_TEXT)}…` : value)

const more = (count: number, things: string) =>
  count > MOST_ROWS
    ? `<p class="none">and ${count - MOST_ROWS} more ${things}, in the .json file beside this page</p>`
    : ''
