import { shown } from './duration.ts'
import { MillraceError } from './errors.ts'
import { decodeEntries, encodeEntries, type StateEntry } from './state-codec.ts'
import type { Journal, StateClock, StateStructure, Table } from './state.ts'

export interface TableOptions {
  /** How long a value is kept after its last write's time, milliseconds of event time. */
  readonly ttl: number
  readonly clock: StateClock
  readonly journal: Journal
  /** Brings a stored value into today's shape. */
  readonly revive?: ((stored: unknown) => unknown) | undefined
}

interface Entry {
  /** The value as JSON: the truth, which no author can change. */
  readonly text: string
  readonly time: number
  value: unknown
  known: boolean
  /** It was written by an earlier life, perhaps of an earlier version. */
  readonly stored: boolean
}

const SWEEP = 2_000

/** Values by key, as JSON texts with the decoded value beside. */
export function createTable<V>({ ttl, clock, journal, revive }: TableOptions): Table<V> & StateStructure {
  const entries = new Map<string, Entry>()
  const changed = new Map<string, number>()
  const undone: { key: string; before: Entry | undefined }[] = []
  let sweeper: MapIterator<[string, Entry]> | undefined

  const alive = (entry: Entry | undefined) => entry !== undefined && entry.time + ttl > clock.watermark
  const valueOf = (entry: Entry) => {
    if (!entry.known) {
      const decoded: unknown = JSON.parse(entry.text)
      entry.value = entry.stored && revive ? revive(decoded) : decoded
      entry.known = true
    }
    return entry.value as V
  }
  const write = (key: string, entry: Entry | undefined) => {
    const before = entries.get(key)
    // what undo brings back is decoded anew: an author may have changed what was given out
    undone.push({ key, before: before && { ...before, known: false, value: undefined } })
    changed.set(key, (changed.get(key) ?? 0) + 1)
    journal.note(table)
    if (entry) entries.set(key, entry)
    else entries.delete(key)
  }

  const table: Table<V> & StateStructure = {
    format: 'table/1',
    get(key) {
      const entry = entries.get(key)
      return alive(entry) ? valueOf(entry!) : undefined
    },
    set(key, value, time) {
      checkJson(value, '$')
      write(key, { text: JSON.stringify(value), time, value, known: true, stored: false })
    },
    delete(key) {
      if (entries.has(key)) write(key, undefined)
    },
    *entries() {
      for (const [key, entry] of entries) if (alive(entry)) yield [key, valueOf(entry)]
    },
    undo() {
      const { key, before } = undone.pop()!
      const left = changed.get(key)! - 1
      if (left === 0) changed.delete(key)
      else changed.set(key, left)
      if (before) entries.set(key, before)
      else entries.delete(key)
    },
    delta() {
      if (changed.size === 0) return undefined
      const list: StateEntry[] = []
      for (const key of changed.keys()) {
        const entry = entries.get(key)
        list.push(entry ? { put: true, key, time: entry.time, value: entry.text } : { put: false, key, time: 0, value: '' })
      }
      return encodeEntries(ttl, list)
    },
    committed() {
      changed.clear()
      undone.length = 0
      if (!Number.isFinite(clock.watermark)) return
      sweeper ??= entries.entries()
      for (let i = 0; i < SWEEP; i++) {
        const next = sweeper.next()
        if (next.done) {
          sweeper = undefined
          break
        }
        if (!alive(next.value[1])) entries.delete(next.value[0])
      }
    },
    load(blobs) {
      for (const { bytes } of blobs) {
        for (const { put, key, time, value } of decodeEntries(bytes)) {
          if (put) entries.set(key, { text: value, time, value: undefined, known: false, stored: true })
          else entries.delete(key)
        }
      }
    },
    get size() {
      return entries.size
    },
    get memory() {
      return entries.size * 300
    },
  }
  return table
}

/** @throws MillraceError NOT_JSON with the path of what is not JSON. An absent field may be undefined. */
function checkJson(value: unknown, path: string, depth = 0): void {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return
    case 'number':
      if (Number.isFinite(value)) return
      break
    case 'object': {
      if (value === null) return
      if (depth > 100) break
      if (Array.isArray(value)) return value.forEach((item, i) => checkJson(item, `${path}[${i}]`, depth + 1))
      const prototype = Object.getPrototypeOf(value)
      if (prototype !== Object.prototype && prototype !== null) break
      for (const key in value) {
        const field = (value as Record<string, unknown>)[key]
        if (field !== undefined) checkJson(field, `${path}.${key}`, depth + 1)
      }
      return
    }
  }
  const what = typeof value === 'object' ? (value?.constructor?.name ?? 'an object nested too deeply') : `${typeof value} ${shown(value)}`
  throw new MillraceError('NOT_JSON', `state must be JSON, but ${path} is ${what}: keep dates as epoch milliseconds, maps as objects, bigints as strings`)
}
