/**
 * What keyed state costs as it grows: a look-up and write of an expiring set and of a table, with ten thousand and with
 * ten million keys, epochs sealed every thousand; bytes a key; and the longest that one epoch took more than the usual.
 *
 *     npx node bench/state.ts [--keys 10000000] [--json]
 */
import { parseArgs } from 'node:util'
import { createJournal } from '../core/journal.ts'
import { createState, type TaskState } from '../core/keyed-state.ts'

const { values: args } = parseArgs({
  options: { keys: { type: 'string', default: '10000000' }, json: { type: 'boolean', default: false } },
})
const FEW = 10_000
const MANY = Number(args.keys)
const EPOCH = 1_000
/** Records that are measured once all keys are there; each needs one call of what is measured. */
const MEASURED = 1_000_000
/** What a record costs in the bench's whole pipeline with little state, microseconds. */
const RECORD = 2.5

interface Figures {
  readonly microseconds: number
  readonly bytesPerKey: number
  /** How much longer than the median epoch the longest took, milliseconds. */
  readonly longestStall: number
}

/** The key of a number: as many as there are numbers, in no order. */
const keyOf = (i: number) => `visitor-${(Math.imul(i, 0x9e3779b1) >>> 0).toString(36)}`

/** A window of so many keys: each record brings a new one, and the oldest dies. */
function expiringSet(keys: number): Figures {
  const clock = { watermark: Number.NEGATIVE_INFINITY }
  const journal = createJournal()
  const set = createState({ kind: 'expiring-set', within: keys }, { clock, journal, secret: new Uint8Array(32) })
  return measure(set, keys, journal, (i) => {
    clock.watermark = i - EPOCH
    if (set.add(keyOf(i), i) !== 'added') throw new Error('a key came back')
  })
}

/** A count and a time a key, as a scan keeps them, each key as likely as any other. */
function table(keys: number): Figures {
  const clock = { watermark: Number.NEGATIVE_INFINITY }
  const journal = createJournal()
  const counts = createState({ kind: 'table', ttl: 1e15 }, { clock, journal, secret: new Uint8Array(32) })
  return measure(counts, keys, journal, (i) => {
    const key = keyOf(i < keys ? i : (Math.imul(i, 0x85ebca6b) >>> 0) % keys)
    const before = counts.get(key) as { n: number } | undefined
    counts.set(key, { n: (before?.n ?? 0) + 1, at: 1_700_000_000_000 + i }, i)
  })
}

function measure(
  state: TaskState,
  keys: number,
  journal: ReturnType<typeof createJournal>,
  record: (i: number) => void,
): Figures {
  const epochs: number[] = []
  for (let i = 0; i < keys + MEASURED; ) {
    const began = performance.now()
    for (const end = i + EPOCH; i < end; i++) record(i)
    state.delta()
    state.sealed()
    journal.clear()
    if (i > keys) epochs.push(performance.now() - began)
  }
  const bytesPerKey = state.memory / state.size
  state.close()
  epochs.sort((a, b) => a - b)
  const median = epochs[epochs.length >> 1]!
  return { microseconds: (median * 1_000) / EPOCH, bytesPerKey, longestStall: epochs.at(-1)! - median }
}

/** The same with few keys and with many, in one process: `ratio` is of a whole record's cost. */
function compare(make: (keys: number) => Figures) {
  make(FEW)
  const few = make(FEW)
  const many = make(MANY)
  return { few, many, ratio: (RECORD + many.microseconds - few.microseconds) / RECORD }
}

const figures = { keys: MANY, expiringSet: compare(expiringSet), table: compare(table) }
if (args.json) console.log(JSON.stringify(figures))
else {
  for (const [name, { few, many, ratio }] of Object.entries({
    'expiring set': figures.expiringSet,
    table: figures.table,
  })) {
    console.log(
      `${name}: ${few.microseconds.toFixed(2)} µs with ${FEW} keys, ${many.microseconds.toFixed(2)} µs with ${MANY}: a record costs ${ratio.toFixed(2)} times as much`,
    )
    console.log(`  ${many.bytesPerKey.toFixed(0)} bytes a key; longest stall ${many.longestStall.toFixed(1)} ms`)
  }
}
