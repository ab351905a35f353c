import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * What the engine takes from the world around it: time, chance and names. Nothing in Millrace asks the machine for
 * these by another way, so that a test, a replay and the simulator own them.
 */
export interface Runtime {
  /** Wall-clock time, epoch milliseconds. */
  now(): number
  /** A clock that only moves forward, milliseconds: for durations. */
  elapsed(): number
  /** Resolves after `ms`, or at once when the signal aborts; it never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Lets pending input and output of the process run. */
  yield(): Promise<void>
  /** A number from 0 up to, and not, 1. */
  random(): number
  /** A name that no other call has given. */
  id(): string
}

/** The machine's own clock and randomness. */
export const systemRuntime: Runtime = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal ? { signal } : undefined).catch(() => undefined),
  yield: () => new Promise((resolve) => setImmediate(resolve)),
  random: () => Math.random(),
  id: () => randomUUID(),
}

/** A signal that aborts when `parent` does or after `ms` of the runtime's time; `clear` frees what it holds. */
export function deadline(runtime: Runtime, ms: number, parent?: AbortSignal): { signal: AbortSignal; clear(): void } {
  const controller = new AbortController()
  const cleared = new AbortController()
  const abort = () => controller.abort(parent?.reason)
  if (parent?.aborted) abort()
  else parent?.addEventListener('abort', abort, { once: true })
  void runtime.sleep(ms, cleared.signal).then(() => {
    if (!cleared.signal.aborted) controller.abort(new Error(`no answer within ${ms} ms`))
  })
  return {
    signal: controller.signal,
    clear() {
      parent?.removeEventListener('abort', abort)
      // with a reason of our own, none is made, which would cost more than the rest
      cleared.abort('in time')
    },
  }
}
