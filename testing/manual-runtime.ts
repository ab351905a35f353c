import type { Runtime } from '../core/runtime.ts'

/** A runtime whose clock stands still until it is told to go on, and whose chance and names are the same at every run. */
export interface ManualRuntime extends Runtime {
  /**
   * Moves the clock, and lets all that was asleep until then wake up, in order: each at its time, or by strides, at the end
   * of its stride, so that a day takes no longer than a second.
   */
  advance(ms: number, stride?: number): Promise<void>
  /** How often somebody went to sleep. */
  readonly naps: number
}

/** Lets all work that waits for nothing but its turn come to rest. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** @param start epoch milliseconds */
export function manualRuntime(start = 1_700_000_000_000): ManualRuntime {
  let now = start
  let names = 0
  let naps = 0
  let seed = 1
  const sleepers = new Set<{ until: number; wake: () => void }>()
  return {
    now: () => now,
    elapsed: () => now - start,
    yield: turn,
    id: () => `${(++names).toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`,
    random: () => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed / 2_147_483_647
    },
    sleep(ms, signal) {
      naps++
      return new Promise((resolve) => {
        const sleeper = {
          until: now + ms,
          wake: () => {
            sleepers.delete(sleeper)
            signal?.removeEventListener('abort', sleeper.wake)
            resolve()
          },
        }
        if (signal?.aborted) return resolve()
        sleepers.add(sleeper)
        signal?.addEventListener('abort', sleeper.wake, { once: true })
      })
    },
    async advance(ms, stride = 0) {
      const end = now + ms
      while (stride > 0 && now < end) {
        now = Math.min(end, now + stride)
        const awake = [...sleepers].filter(({ until }) => until <= now)
        for (const { wake } of awake.sort((a, b) => a.until - b.until)) wake()
        await turn()
        await turn()
      }
      for (;;) {
        await turn()
        const next = [...sleepers].filter(({ until }) => until <= end).sort((a, b) => a.until - b.until)[0]
        if (!next) break
        now = Math.max(now, next.until)
        next.wake()
      }
      now = end
      await turn()
    },
    get naps() {
      return naps
    },
  }
}
