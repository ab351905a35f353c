import { describe } from '../core/compaction.ts'
import { MillraceError } from '../core/errors.ts'
import type { InspectedSlot, StateInspector } from '../state/inspect.ts'
import { inspecting } from './data-dir.ts'
import { count, counted, instant, size } from './format.ts'
import { renderTable } from './table.ts'
import { out } from './terminal.ts'

interface Options {
  readonly data: string
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
export function listState(operator: string | undefined, { data, json, limit }: Options & { limit: number }): void {
  if (operator !== undefined) {
    const entries = inspecting(data, (inspector) => [...entriesOf(inspector, operator, data).take(limit)])
    return printEntries(entries, json)
  }
  const rows = inspecting(data, (inspector) =>
    inspector.slots().map((slot) => ({ ...slot, entries: countOf(inspector, slot) })),
  )
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
export function getState(operator: string, key: string, { data, json }: Options): void {
  const found = inspecting(data, (inspector) => [
    ...entriesOf(inspector, operator, data).filter((entry) => entry.key === key),
  ])
  if (found.length > 0) return printEntries(found, json)
  throw new MillraceError(
    'NOT_FOUND',
    `the operator "${operator}" keeps nothing under that key. Keys of dedup are kept as fingerprints only, and cannot be looked up; what is not committed yet cannot be seen`,
  )
}

/** @throws MillraceError NOT_FOUND */
export function sizeOfState({ data, json }: Options): void {
  const { store, slots, lanes } = inspecting(data, (inspector) => ({
    store: inspector.store(),
    slots: inspector.slots(),
    lanes: inspector.lanes(),
  }))
  if (json) return out.write(`${JSON.stringify({ store, slots, lanes })}\n`)
  out.write(
    `state file   ${size(store.bytes)}, and ${size(store.logBytes)} of write-ahead log; ${counted(store.commits, 'commit')}\n`,
  )
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

function* entriesOf(inspector: StateInspector, operator: string, data: string): Generator<Entry> {
  const slots = inspector
    .slots()
    .filter(({ slot }) => slot === operator || slot.slice(0, slot.lastIndexOf('/')) === operator)
  if (slots.length === 0) {
    const known = [...new Set(inspector.slots().map(({ slot }) => slot.slice(0, slot.lastIndexOf('/'))))]
    throw new MillraceError(
      'NOT_FOUND',
      `no operator "${operator}" has kept anything in ${data}; there is: ${known.join(', ') || 'nothing yet'}`,
    )
  }
  for (const { task, slot, format } of slots) {
    const blobs = inspector.blobs(task, slot).map(({ bytes }) => bytes)
    for (const entry of describe(format, blobs)) yield { task, state: slot, ...entry }
  }
}

function countOf(inspector: StateInspector, { task, slot, format }: InspectedSlot): number {
  const blobs = inspector.blobs(task, slot).map(({ bytes }) => bytes)
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
