/** Starts on a store that was left by a killed process: opens it, reads its blobs, takes them in; says how long it took. */
import { createJournal } from '../core/journal.ts'
import { createState } from '../core/keyed-state.ts'
import { systemRuntime } from '../core/runtime.ts'
import { sqliteStore } from '../state/sqlite.ts'

const [kind, path, keys] = process.argv.slice(2) as ['expiring-set' | 'table', string, string]
const began = performance.now()
const store = await sqliteStore({ path, runtime: systemRuntime })
const storeOpened = performance.now()
const { blobs } = await store.open('bench/main/0')
const blobsRead = performance.now()
const deps = { clock: { watermark: 0 }, journal: createJournal(), secret: store.secret }
const state =
  kind === 'table'
    ? createState({ kind: 'table', ttl: 1e15 }, deps)
    : createState({ kind: 'expiring-set', within: 1e15 }, deps)
state.load(blobs)
const loaded = performance.now()
if (state.size !== Number(keys)) throw new Error(`${state.size} of ${keys} keys are back`)
process.send!({
  storeOpened: storeOpened - began,
  blobsRead: blobsRead - storeOpened,
  loaded: loaded - blobsRead,
  total: loaded - began,
})
