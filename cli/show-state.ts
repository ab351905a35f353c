import { describe } from '../core/compaction.ts'
import { MillraceError } from '../core/errors.ts'
import type { InspectedSlot } from '../state/inspect.ts'
import { count, counted, instant, size } from './format.ts'
import { type Inspector, inspecting, type StatePlace } from './store.ts'
import { renderTable } from './table.ts'
import { out } from './terminal.ts'

interface Options extends StatePlace {
  readonly json?: true
}

/** An entry of an operator's state: a key and its value, a timer, or the fingerprint of a key that was seen. */
interface Entry {
  readonly task: string
  readonly state: string
  readonly key?: string
  readonly fingerprint?: string
  readonly value?: unknown
  /** Epoch milliseconds: of the last write, of the key's first record, or when the timer is due. */
  readonly time: number
}

/** @throws MillraceError NOT_FOUND */
export async function listState(
  operator: string | undefined,
  { json, limit, ...place }: Options & { limit: number },
): Promise<void> {
  if (operator !== undefined) {
    const entries = await inspecting(place, (inspector) => some(entriesOf(inspector, operator, place), limit))
    return printEntries(entries, json)
  }
  const rows = await inspecting(place, async (inspector) => {
    const slots = await inspector.slots()
    return Promise.all(slots.map(async (slot) => ({ ...slot, entries: await countOf(inspector, slot) })))
  })
  if (json) return out.write(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  if (rows.length === 0) return out.write('no operator has kept anything yet\n')
  out.write(
    renderTable({
      columns: [
        { title: 'operator / state' },
        { title: 'task' },
        { title: 'kind' },
        { title: 'entries', align: 'right' },
        { title: 'size', align: 'right' },
      ],
      rows: rows.map(({ slot, task, format, entries, bytes }) => [
        slot,
        task,
        format.split('/')[0]!,
        count(entries),
        size(bytes),
      ]),
      on: out,
    }),
  )
}

/** @throws MillraceError NOT_FOUND */
export async function getState(operator: string, key: string, { json, ...place }: Options): Promise<void> {
  const found = await inspecting(place, (inspector) =>
    some(entriesOf(inspector, operator, place), Number.POSITIVE_INFINITY, (entry) => entry.key === key),
  )
  if (found.length > 0) return printEntries(found, json)
  throw new MillraceError(
    'NOT_FOUND',
    `the operator "${operator}" keeps nothing under that key. Keys of dedup are kept as fingerprints only, and cannot be looked up; what is not committed yet cannot be seen`,
  )
}

/** @throws MillraceError NOT_FOUND */
export async function sizeOfState({ json, ...place }: Options): Promise<void> {
  const { store, slots, lanes } = await inspecting(place, async (inspector) => ({
    store: await inspector.store(),
    slots: await inspector.slots(),
    lanes: await inspector.lanes(),
  }))
  if (json) return out.write(`${JSON.stringify({ store, slots, lanes })}\n`)
  const where = place.store
    ? `in Redis     ${size(store.bytes)}`
    : `state file   ${size(store.bytes)}, and ${size(store.logBytes)} of write-ahead log`
  out.write(`${where}; ${counted(store.commits, 'commit')}\n`)
  out.write(
    `state        ${size(slots.reduce((sum, slot) => sum + slot.bytes, 0))} in ${counted(slots.length, 'piece')}\n`,
  )
  const waiting = lanes.reduce((sum, lane) => sum + lane.bytes, 0)
  out.write(
    `staged       ${size(waiting)} in ${counted(
      lanes.reduce((sum, lane) => sum + lane.batches, 0),
      'batch',
      'batches',
    )}\n`,
  )
  for (const lane of lanes) {
    out.write(
      `  ${lane.sink.padEnd(11)}${counted(lane.rows, 'row')}, the oldest staged ${instant(lane.stagedAt)} UTC (${lane.task})\n`,
    )
  }
}

async function* entriesOf(inspector: Inspector, operator: string, { data, store }: StatePlace): AsyncGenerator<Entry> {
  const all = await inspector.slots()
  const slots = all.filter(({ slot }) => slot === operator || slot.slice(0, slot.lastIndexOf('/')) === operator)
  if (slots.length === 0) {
    const known = [...new Set(all.map(({ slot }) => slot.slice(0, slot.lastIndexOf('/'))))]
    throw new MillraceError(
      'NOT_FOUND',
      `no operator "${operator}" has kept anything in ${store ? 'the store' : data}; there is: ${known.join(', ') || 'nothing yet'}`,
    )
  }
  for (const { task, slot, format } of slots) {
    const blobs = (await inspector.blobs(task, slot)).map(({ bytes }) => bytes)
    for (const entry of describe(format, blobs)) yield { task, state: slot, ...entry }
  }
}

/** The first entries that are meant. */
async function some(
  entries: AsyncGenerator<Entry>,
  limit: number,
  meant: (entry: Entry) => boolean = () => true,
): Promise<Entry[]> {
  const found: Entry[] = []
  for await (const entry of entries) {
    if (found.length >= limit) break
    if (meant(entry)) found.push(entry)
  }
  return found
}

async function countOf(inspector: Inspector, { task, slot, format }: InspectedSlot): Promise<number> {
  const blobs = (await inspector.blobs(task, slot)).map(({ bytes }) => bytes)
  return describe(format, blobs).reduce((sum) => sum + 1, 0)
}

function printEntries(entries: readonly Entry[], json: true | undefined): void {
  if (json) return out.write(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
  out.write(
    renderTable({
      columns: [{ title: 'state' }, { title: 'key' }, { title: 'value' }, { title: 'time (UTC)' }, { title: 'task' }],
      rows: entries.map(({ state, key, fingerprint, value, time, task }) => [
        state,
        key ?? `#${fingerprint}`,
        value === undefined ? '' : JSON.stringify(value),
        instant(time),
        task,
      ]),
      on: out,
    }),
  )
  out.write(`${counted(entries.length, 'entry', 'entries')}\n`)
}
