/**
 * Whose turn it is in one worker: its tasks work beside one another, until one asks to be alone. Then it waits for those
 * that are at work, and the others wait for it: what happens to the process meanwhile is its doing.
 */
export class Turns {
  private working = 0
  /** Whoever is alone now, and those who wait to be. */
  private last: Promise<void> | undefined
  private idle: (() => void) | undefined

  async beside<R>(work: () => Promise<R>): Promise<R> {
    while (this.last) await this.last
    this.working++
    try {
      return await work()
    } finally {
      if (--this.working === 0) this.idle?.()
    }
  }

  async alone<R>(work: () => Promise<R>): Promise<R> {
    const before = this.last
    const { promise, resolve } = Promise.withResolvers<void>()
    this.last = promise
    try {
      await before
      if (this.working > 0) await this.othersEnd()
      return await work()
    } finally {
      if (this.last === promise) this.last = undefined
      resolve()
    }
  }

  private othersEnd(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.idle = resolve
    return promise
  }
}
