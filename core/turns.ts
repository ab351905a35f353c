import type { Runtime } from './runtime.ts'

/** Milliseconds of work of all tasks, after which what came from outside is heard before the next begins. */
const LONG = 10

/**
 * Whose turn it is in one worker: its tasks work beside one another, until one asks to be alone. Then it waits for those
 * that are at work, and the others wait for it: what happens to the process meanwhile is its doing.
 */
export class Turns {
  private readonly runtime: Runtime
  private spent = 0
  private heard: Promise<void> = Promise.resolve()
  private working = 0
  /** Whoever is alone now, and those who wait to be. */
  private last: Promise<void> | undefined
  private idle: (() => void) | undefined

  constructor(runtime: Runtime) {
    this.runtime = runtime
  }

  async beside<R>(work: () => Promise<R>): Promise<R> {
    if (this.spent > LONG) await this.hear()
    while (this.last) await this.last
    this.working++
    try {
      return await work()
    } finally {
      if (--this.working === 0) this.idle?.()
    }
  }

  /** Counts so many milliseconds in which nothing from outside was heard. */
  spend(ms: number): void {
    this.spent += ms
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

  /** One after the other: eight tasks whose commits are answered for together would otherwise run in one go. */
  private hear(): Promise<void> {
    this.heard = this.heard
      .then(() => this.runtime.yield())
      .then(() => {
        this.spent = 0
      })
    return this.heard
  }

  private othersEnd(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.idle = resolve
    return promise
  }
}
