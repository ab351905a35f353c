/** Fills one piece of state through a store, epoch by epoch, compacting as a task does; then waits to be killed. */
import { type BlobWeight, expiryOf, planCompaction } from '../core/compaction.ts'
import { createJournal } from '../core/journal.ts'
import { createState } from '../core/keyed-state.ts'
import { systemRuntime } from '../core/runtime.ts'
import type { Compaction } from '../core/store.ts'
import { sqliteStore } from '../state/sqlite.ts'

const [kind, path, keys] = process.argv.slice(2) as ['expiring-set' | 'table', string, string]
const EPOCH = 10_000
const task = 'bench/main/0'
const slot = 'state/kept'

const store = await sqliteStore({ path, runtime: systemRuntime })
const { fence } = await store.open(task)
const journal = createJournal()
const deps = { clock: { watermark: 0 }, journal, secret: store.secret }
const add = kind === 'table' ? adder() : filler()
const { state } = add
const blobs: BlobWeight[] = []
let installable: Compaction[] = []
let merging: Promise<void> | undefined

function filler() {
  const set = createState({ kind: 'expiring-set', within: 1e15 }, deps)
  return { state: set, one: (key: string, i: number) => void set.add(key, i) }
}

function adder() {
  const table = createState({ kind: 'table', ttl: 1e15 }, deps)
  return { state: table, one: (key: string, i: number) => table.set(key, { n: 1, at: 1_700_000_000_000 + i }, i) }
}

function compact(): void {
  if (merging) return
  const ids = planCompaction(blobs, { live: state.live })
  if (!ids) return
  const request = {
    slot,
    format: state.format,
    blobs: ids,
    oldest: blobs[0]!.id === ids[0],
    horizon: Number.NEGATIVE_INFINITY,
  }
  merging = store.merge(task, request).then((bytes) => {
    installable.push({ slot, format: state.format, replaces: ids, ...(bytes ? { bytes } : {}) })
  })
}

async function commit(epoch: number): Promise<void> {
  const bytes = state.delta()
  state.sealed()
  journal.clear()
  const compactions = installable
  installable = []
  const result = await store.commit({
    task,
    fence,
    epoch,
    facts: '{}',
    blobs: bytes ? [{ slot, format: state.format, bytes }] : [],
    compactions,
  })
  if (result.kind !== 'committed') throw new Error(`epoch ${epoch}: ${result.kind}`)
  if (bytes) blobs.push({ id: result.blobs[0]!, bytes: bytes.length, expires: expiryOf(state.format, bytes) })
  compactions.forEach(({ replaces, bytes: merged }, i) => {
    const at = blobs.findIndex(({ id }) => id === replaces[0])
    blobs.splice(at, replaces.length, ...(merged ? [{ id: result.compacted[i]!, bytes: merged.length }] : []))
    merging = undefined
  })
  compact()
}

for (let i = 0, epoch = 1; i < Number(keys); epoch++) {
  for (const end = i + EPOCH; i < end; i++) add.one(`visitor-${(Math.imul(i, 0x9e3779b1) >>> 0).toString(36)}`, i)
  await commit(epoch)
}
process.send!({ blobs: blobs.length, bytes: blobs.reduce((sum, { bytes }) => sum + bytes, 0) })
