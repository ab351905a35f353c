import { isUtf8 } from 'node:buffer'
import { once } from 'node:events'
import { MillraceError } from '../core/errors.ts'
import type { StoredDeadLetter } from '../core/store.ts'
import type { DeadLetterFilter } from '../state/inspect.ts'
import { count, counted, instant } from './format.ts'
import { inspecting, type StatePlace } from './store.ts'
import { renderTable } from './table.ts'
import { out, plain } from './terminal.ts'

type Selection = DeadLetterFilter & StatePlace

const AT_ONCE = 500

/** @throws MillraceError NOT_FOUND */
export async function listDeadLetters({
  data,
  store,
  after = 0,
  limit,
  json,
  ...filter
}: Selection & { after?: number; limit: number; json?: true }): Promise<void> {
  const { letters, all } = await inspecting({ data, store }, async (inspector) => ({
    letters: await inspector.deadLetters.list({ ...filter, after, limit }),
    all: await inspector.deadLetters.count(filter),
  }))
  if (json) return out.write(letters.map((letter) => `${jsonOf(letter)}\n`).join(''))
  if (all === 0) return out.write('there are no dead letters\n')
  out.write(
    renderTable({
      columns: [
        { title: 'id', align: 'right' },
        { title: 'set aside (UTC)' },
        { title: 'where' },
        { title: 'reason' },
        { title: 'from' },
        { title: 'place', align: 'right' },
        { title: 'key' },
      ],
      rows: letters.map(({ id, at, where, reason, source, position, key }) => [
        String(id),
        instant(at),
        where,
        reason,
        source,
        position < 0 ? '' : String(position),
        key ?? '',
      ]),
      on: out,
    }),
  )
  const last = letters.at(-1)
  const more = last && letters.length === limit && all > letters.length ? `; go on with --after ${last.id}` : ''
  out.write(`${count(letters.length)} of ${counted(all, 'dead letter')}${more}\n`)
}

/** @throws MillraceError NOT_FOUND */
export async function showDeadLetter(id: number, { json, ...place }: StatePlace & { json?: true }): Promise<void> {
  const letter = await inspecting(place, async (inspector) => inspector.deadLetters.get(id))
  if (!letter)
    throw new MillraceError(
      'NOT_FOUND',
      `there is no dead letter ${id}: millrace dead-letters list shows what there is`,
    )
  if (json) return out.write(`${jsonOf(letter)}\n`)
  const { source, partition, position, at, where, code, reason, key, time, task, bytes } = letter
  const lines: [string, string][] = [
    ['reason', `${reason} (${code})`],
    ['where', where],
    ['from', position < 0 ? source : `${source}${partition < 0 ? '' : `, partition ${partition}`}, at ${position}`],
    ['task', task],
    ['set aside', `${instant(at)} UTC`],
    ...(key === undefined ? [] : ([['key', key]] as [string, string][])),
    ...(time === undefined ? [] : ([['event time', `${instant(time)} UTC`]] as [string, string][])),
    ['size', counted(bytes.length, 'byte')],
  ]
  for (const [name, text] of lines) out.write(`${out.style('dim', name.padEnd(12))}${plain(text)}\n`)
  out.write(`\n${isUtf8(bytes) ? plain(Buffer.from(bytes).toString('utf8')) : hexDump(bytes)}\n`)
}

/** @throws MillraceError NOT_FOUND */
export async function exportDeadLetters({ data, store, ...filter }: Selection): Promise<void> {
  for (let after = 0; ; ) {
    const letters = await inspecting({ data, store }, async (inspector) =>
      inspector.deadLetters.list({ ...filter, after, limit: AT_ONCE }),
    )
    if (letters.length === 0) return
    after = letters.at(-1)!.id
    if (!process.stdout.write(letters.map((letter) => `${jsonOf(letter)}\n`).join('')))
      await once(process.stdout, 'drain')
  }
}

function jsonOf({ bytes, ...letter }: StoredDeadLetter): string {
  const buffer = Buffer.from(bytes)
  return JSON.stringify({
    ...letter,
    ...(isUtf8(bytes) ? { text: buffer.toString('utf8') } : { base64: buffer.toString('base64') }),
  })
}

function hexDump(bytes: Uint8Array): string {
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Buffer.from(bytes.subarray(at, at + 16))
    const hex = row.toString('hex').replace(/(..)/g, '$1 ').padEnd(48)
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex} ${row.toString('latin1').replace(/[^ -~]/g, '.')}`)
  }
  return lines.join('\n')
}
