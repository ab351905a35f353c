import { DatabaseSync } from 'node:sqlite'
import type { Runtime } from '../core/runtime.ts'

const BUSY = 5

/**
 * A lock between processes that dies with its holder: SQLite's exclusive lock on an empty file, which is a lock of the
 * operating system. It holds between two locks of one process, too. The file must be touched by nothing else.
 */
export class FileLock {
  readonly #runtime: Runtime
  readonly #db: DatabaseSync

  constructor(path: string, runtime: Runtime) {
    this.#runtime = runtime
    this.#db = new DatabaseSync(path, { timeout: 0 })
  }

  /** Runs `work` while no other holds the lock. Calls on one lock must not overlap. */
  async hold<R>(work: () => Promise<R>): Promise<R> {
    while (!this.#taken()) await this.#runtime.sleep(1 + 4 * this.#runtime.random())
    try {
      return await work()
    } finally {
      this.#db.exec('ROLLBACK')
    }
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close()
  }

  #taken(): boolean {
    try {
      this.#db.exec('BEGIN EXCLUSIVE')
      return true
    } catch (error) {
      if ((error as { errcode?: number }).errcode === BUSY) return false
      throw error
    }
  }
}
