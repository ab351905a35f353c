import { createHash } from 'node:crypto'
import type { Meta } from './operator.ts'
import type { RowMeta } from './sink.ts'

/**
 * What travels beside a value: one object a segment, set anew for each element, so that no record allocates one. Who
 * wants to keep it takes a `snapshot`.
 */
export class ElementMeta implements Meta, RowMeta {
  key = ''
  time = 0
  source = ''
  stamp = 0
  /** Of a record, its partition and position; of a timer, -1 and its due time. */
  partition = 0
  position = 0
  draws = 0
  /** What caused it in the stage before, where a channel brought it. */
  carried: string | undefined
  /** Of a timer, the key that it was set for: the stream's, and perhaps a finer one. */
  timerKey = ''
  /** Draws the versions of last-write-wins; the task's, over all its lives. */
  versions: { next(stamp: number): number } | undefined

  now(): number {
    return this.stamp
  }

  get cause(): string {
    if (this.carried !== undefined) return this.carried
    return this.partition < 0
      ? `${this.source}/${this.timerKey}/${this.position}`
      : `${this.source}/${this.partition}/${this.position}`
  }

  random(): number {
    return this.draw().readUInt32LE(0) / 0x1_0000_0000
  }

  id(): string {
    return this.draw().toString('hex', 0, 16)
  }

  version(): number {
    return this.versions!.next(this.stamp)
  }

  record(source: string, partition: number, position: number, stamp: number): void {
    this.source = source
    this.partition = partition
    this.position = position
    this.stamp = stamp
    this.draws = 0
    this.carried = undefined
  }

  timer(operator: string, timerKey: string, key: string, due: number, stamp: number): void {
    this.record(operator, -1, due, stamp)
    this.timerKey = timerKey
    this.key = key
    this.time = due
  }

  copy(other: ElementMeta): void {
    this.key = other.key
    this.time = other.time
    this.source = other.source
    this.stamp = other.stamp
    this.partition = other.partition
    this.position = other.position
    this.draws = other.draws
    this.carried = other.carried
    this.timerKey = other.timerKey
    this.versions = other.versions
  }

  snapshot(): ElementMeta {
    const made = new ElementMeta()
    made.copy(this)
    return made
  }

  private draw(): Buffer {
    return createHash('sha256')
      .update(`${this.cause}\u0000${this.draws++}`)
      .digest()
  }
}
