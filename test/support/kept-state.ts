import { type BlobWeight, expiryOf, mergeBlobs, planCompaction } from '../../core/compaction.ts'
import { createJournal } from '../../core/journal.ts'
import type { TaskState } from '../../core/keyed-state.ts'
import type { Journal, StateClock } from '../../core/state.ts'

export interface Deps {
  clock: StateClock
  journal: Journal
  secret: Uint8Array
}

interface Blob {
  id: number
  format: string
  bytes: Uint8Array
}

export const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i * 7 + 1)

/** What a task and its store do with one piece of state, without either. */
export function keep<S extends TaskState>(make: (deps: Deps) => S) {
  const clock = { watermark: Number.NEGATIVE_INFINITY }
  let committed = clock.watermark
  let nextId = 1
  const kept = {
    clock,
    journal: createJournal(),
    blobs: [] as Blob[],
    state: undefined as unknown as S,
    /** Ends the epoch: what it changed is stored. */
    commit(): void {
      const bytes = kept.state.delta()
      const id = bytes ? nextId++ : undefined
      // The store gets a copy, as if it were on another thread.
      if (bytes) kept.blobs.push({ id: id!, format: kept.state.format, bytes: Uint8Array.from(bytes) })
      kept.state.sealed()
      kept.journal.clear()
      committed = clock.watermark
    },
    /** The epoch fails: nothing of it stays, its watermark neither. */
    fail(): void {
      kept.journal.undoTo(0)
      clock.watermark = committed
    },
    /** The process is killed and started again. */
    restart(): void {
      kept.state?.close()
      kept.journal = createJournal()
      clock.watermark = committed
      kept.state = make({ clock, journal: kept.journal, secret: SECRET })
      kept.state.load(kept.blobs.map((blob) => ({ ...blob, bytes: Uint8Array.from(blob.bytes) })))
    },
    /** Merges some neighbours. */
    merge(from: number, to: number, horizon = committed): void {
      const merged = kept.blobs.slice(from, to)
      if (merged.length === 0) return
      const { format } = merged[0]!
      const bytes = mergeBlobs(
        format,
        merged.map((blob) => blob.bytes),
        { oldest: from === 0, horizon },
      )
      kept.blobs.splice(from, merged.length, ...(bytes ? [{ id: nextId++, format, bytes }] : []))
    },
    /** Does what the plan says until it says nothing. */
    compact(limit?: number): void {
      for (;;) {
        const weights: BlobWeight[] = kept.blobs.map(({ id, format, bytes }) => ({
          id,
          bytes: bytes.length,
          expires: expiryOf(format, bytes),
        }))
        const ids = planCompaction(weights, { horizon: committed, live: kept.state.live, ...(limit ? { limit } : {}) })
        if (!ids) return
        const from = kept.blobs.findIndex(({ id }) => id === ids[0])
        kept.merge(from, from + ids.length)
      }
    },
    get stored(): number {
      return kept.blobs.reduce((sum, { bytes }) => sum + bytes.length, 0)
    },
  }
  kept.restart()
  return kept
}
