/**
 * The group port: several workers, on one machine or many, share the partitions of a stage. A source of a system that
 * hands partitions out (Kafka's consumer groups) gives one with `OpenSource.group`; where no source does, the worker
 * reads every partition. A group is never trusted for exclusivity: the store's fence is what keeps a worker that lost a
 * partition from committing.
 */
export interface Group {
  /** What messages call it: `the consumer group "cart-abandonment"`. */
  readonly name: string
  /**
   * Joins, with every source that was opened with this group. It resolves when the system was reached; partitions come
   * with `member.assigned`, then and whenever they are shared out anew.
   *
   * @throws MillraceError SOURCE_FAILED, with `retriable` when a later try may succeed
   */
  join(member: GroupMember): Promise<void>
  /**
   * What was last recorded of a partition, by source name; a source of which nothing is recorded is absent.
   *
   * @throws MillraceError SOURCE_FAILED, with `retriable`
   */
  recorded(partition: number): Promise<Readonly<Record<string, GroupRecord>>>
  /**
   * Records how far a partition has come: a hint for lag tools, and the witness that tells a store which was put back
   * (engine rule 13). Called after a commit, not after each; a failure is logged by the engine and is no error.
   */
  record(partition: number, records: Readonly<Record<string, GroupRecord>>): Promise<void>
  /** Gives its partitions back, so that others get them at once. */
  leave(): Promise<void>
}

/** How far a source's partition was read, as the group's system keeps it. */
export interface GroupRecord {
  /** The position to read on from. */
  readonly next: number
  /** The engine's own text: which store, and which epoch. */
  readonly note: string
}

/** A worker as its group sees it. Calls come one at a time. */
export interface GroupMember {
  /** Partitions are being shared out anew: no epoch begins until `assigned`. The system does not wait for it. */
  rebalancing(): void
  /**
   * These are the worker's partitions from now on, all of them: it ends the others' tasks, and opens what is new. It
   * resolves when it has ended them; they are to go to other workers only then, unless that takes too long.
   *
   * @param coming how many partitions more it will get, when other workers have ended their tasks
   */
  assigned(partitions: readonly number[], coming: number): Promise<void>
  /** The group cannot go on, for a reason that no retry mends. */
  failed(error: unknown): void
}
