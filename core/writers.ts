import type { RawRecord } from './source.ts'

/** So many writers are remembered of a partition; of more, those that were seen first are forgotten. */
const MOST = 1_000

/**
 * The last sequence that a task has had of each writer of its records (engine rule 18): what was written twice, because it
 * was not known whether the first time had taken effect, is had once. It is stored with the position.
 */
export class Writers {
  private readonly last: Map<string, number>

  constructor(stored: Readonly<Record<string, number>> = {}) {
    this.last = new Map(Object.entries(stored))
  }

  /** The task has had this record of its writer, or a later one. */
  had({ writer }: RawRecord): boolean {
    return writer !== undefined && writer.sequence <= (this.last.get(writer.name) ?? Number.NEGATIVE_INFINITY)
  }

  note({ writer }: RawRecord): void {
    if (writer === undefined || writer.sequence <= (this.last.get(writer.name) ?? Number.NEGATIVE_INFINITY)) return
    this.last.set(writer.name, writer.sequence)
    if (this.last.size > MOST) this.last.delete(this.last.keys().next().value!)
  }

  /** As it is stored; undefined when no record has said who wrote it. */
  stored(): Readonly<Record<string, number>> | undefined {
    return this.last.size === 0 ? undefined : Object.fromEntries(this.last)
  }
}
