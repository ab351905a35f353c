import { decodeEntries, encodeEntries, livesOf, type StateEntry } from './state-codec.ts'

export interface MergeOptions {
  /** The blobs are the oldest of their slot: what deletes an older entry need not be kept. */
  readonly oldest: boolean
  /** What is dead at this watermark is dropped. */
  readonly horizon: number
}

/** What blobs that follow one another say together, as one; undefined when nothing is left of them. */
export function mergeBlobs(format: string, blobs: readonly Uint8Array[], { oldest, horizon }: MergeOptions): Uint8Array | undefined {
  const byTime = format.startsWith('timers')
  const last = new Map<string, StateEntry>()
  let lives = Number.POSITIVE_INFINITY
  for (const bytes of blobs) {
    lives = livesOf(bytes)
    for (const entry of decodeEntries(bytes)) {
      const name = byTime ? `${entry.time}/${entry.key}` : entry.key
      last.delete(name)
      last.set(name, entry)
    }
  }
  const kept: StateEntry[] = []
  for (const entry of last.values()) {
    if (!entry.put ? oldest : entry.time + lives <= horizon && oldest) continue
    kept.push(entry)
  }
  return kept.length === 0 ? undefined : encodeEntries(lives, kept)
}

/** Live entries of stored blobs, oldest blob first; for listings. */
export function* describe(format: string, blobs: readonly Uint8Array[]): Generator<{ key: string; time: number; value?: unknown }> {
  const merged = mergeBlobs(format, blobs, { oldest: true, horizon: Number.NEGATIVE_INFINITY })
  if (!merged) return
  for (const { key, time, value } of decodeEntries(merged)) {
    yield format.startsWith('table') ? { key, time, value: JSON.parse(value) as unknown } : { key, time }
  }
}

/** How many blobs of about one size make a merge, and how large one may become. */
const FAN = 8
const MOST = 128 * 1024 * 1024

/**
 * Which neighbours to merge next: the newest run of `FAN` blobs of which none is more than `FAN` times the smallest, so
 * that a byte is written again only about once a power of `FAN`.
 */
export function planCompaction(blobs: readonly { readonly id: number; readonly bytes: number }[]): number[] | undefined {
  for (let end = blobs.length; end >= FAN; end--) {
    const run = blobs.slice(end - FAN, end)
    const sizes = run.map((blob) => Math.max(4096, blob.bytes))
    const sum = sizes.reduce((a, b) => a + b, 0)
    if (Math.max(...sizes) < FAN * Math.min(...sizes) && sum <= MOST) return run.map((blob) => blob.id)
  }
  return undefined
}
