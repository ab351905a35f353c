import { type FSWatcher, watch } from 'node:fs'
import type { Runtime } from '../core/runtime.ts'

const POLL = 100

/**
 * Tells when something in a file or folder may have changed: by the system's word where it gives one, and by looking
 * every 100 ms where it does not (network drives, other kernels).
 */
export class Watch {
  readonly #runtime: Runtime
  readonly #watcher: FSWatcher | undefined
  #wake: (() => void) | undefined

  constructor(path: string, runtime: Runtime) {
    this.#runtime = runtime
    try {
      this.#watcher = watch(path, { persistent: false }, () => this.#wake?.())
      this.#watcher.on('error', () => undefined)
    } catch {
      // No watches left, or none here: looking is enough.
    }
  }

  /** Resolves when `changed` says so, or the signal aborts. It is asked first, and at least every 100 ms. */
  async until(changed: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const woken = new AbortController()
      this.#wake = () => woken.abort()
      signal.addEventListener('abort', this.#wake, { once: true })
      try {
        if (await changed()) return
        if (!woken.signal.aborted) await this.#runtime.sleep(POLL, woken.signal)
      } finally {
        signal.removeEventListener('abort', this.#wake)
        this.#wake = undefined
      }
    }
  }

  close(): void {
    this.#watcher?.close()
    this.#wake?.()
  }
}
