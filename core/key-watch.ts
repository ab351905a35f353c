import type { Logger } from './logger.ts'

/** Keys that are remembered: a sample of one in sixteen, by the key itself. */
const SAMPLE = 15
const MOST = 20_000

/**
 * Watches whether a key stays in its partition. State is kept a task: a key that comes through two partitions has two
 * states, and each of them is wrong in silence, so it is said aloud, once for each place where keys are given.
 */
export class KeyWatch {
  /** Keys that were seen in two partitions, by where the key was given. */
  readonly strays: Record<string, number> = {}
  private readonly seen = new Map<string, Map<string, number>>()
  private readonly logger: Logger
  private readonly pipeline: string

  constructor(pipeline: string, logger: Logger) {
    this.pipeline = pipeline
    this.logger = logger
  }

  /** Notes a key that a source's `key`, or an operator, gave in a partition. */
  note(where: string, key: string, partition: number): void {
    const { length } = key
    if (((key.charCodeAt(length - 1) * 31) ^ key.charCodeAt(length >> 1) ^ length) & SAMPLE) return
    let keys = this.seen.get(where)
    if (!keys) this.seen.set(where, (keys = new Map()))
    const before = keys.get(key)
    if (before === partition) return
    if (before === undefined) {
      if (keys.size >= MOST) keys.clear()
      keys.set(key, partition)
      return
    }
    keys.set(key, partition)
    const count = (this.strays[where] = (this.strays[where] ?? 0) + 1)
    if (count > 1) return
    this.logger.warn(
      { where, partitions: [before, partition] },
      `pipeline "${this.pipeline}": one key of ${where} came through two partitions (${before} and ${partition}): each keeps a state of its own for it, and what operators make of it is wrong. Let the producer write by that key, or bring records together with repartition`,
    )
  }
}
