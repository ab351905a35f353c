/**
 * What operators keep between records: an expiring set, a table, timers. They live in memory, are read synchronously,
 * keep a journal of what the epoch changed, and give what it changed as one blob.
 */

/** The clock that a piece of state lives by: its flow segment's, moved by the engine before each push. */
export interface StateClock {
  /** No older event is expected. Minus infinity before the first record, infinity after the end. */
  readonly watermark: number
}

/** A set of keys, each of which is forgotten once `time + within` is no longer after the watermark. */
export interface ExpiringSet {
  /**
   * Adds a key that was seen at `time`, unless it is there.
   *
   * @returns `added`; `present`, when the key is alive; `expired`, when time + within ≤ watermark: it cannot be judged
   */
  add(key: string, time: number): 'added' | 'present' | 'expired'
  /** How many keys are held, the dead ones that have not been swept included. */
  readonly size: number
}

/** Values by key. A value is JSON, is not to be changed by who gets it, and is forgotten `ttl` after its last write's time. */
export interface Table<V> {
  get(key: string): V | undefined
  /**
   * @param time event time of the write: the value is gone once time + ttl ≤ watermark
   * @throws MillraceError NOT_JSON with the path of what is not JSON; STATE_TOO_LARGE when key and value have more than
   * 16 million characters
   */
  set(key: string, value: V, time: number): void
  delete(key: string): void
  /** Live entries, in no order; for listings. */
  entries(): Iterable<[key: string, value: V]>
  readonly size: number
}

/** A time at which an operator wants to be called for a key. */
export interface Timer {
  readonly time: number
  readonly key: string
  /** Counts registrations: the order of timers with the same time and key. */
  readonly order: number
}

/** An operator's timers. One per key and time: setting it again changes nothing. */
export interface Timers {
  set(key: string, time: number): void
  cancel(key: string, time: number): void
  readonly size: number
}

/** How an operator declares a piece of state. */
export type StateDeclaration =
  | { readonly kind: 'expiring-set'; readonly within: number }
  | {
      readonly kind: 'table'
      readonly ttl: number /** Brings a value of an earlier version into today's shape. */
      readonly revive?: (stored: unknown) => unknown
    }
  | { readonly kind: 'timers'; readonly clock: 'event' | 'processing' }

/** What undoes changes in the opposite order. One for all state of a task, so that a savepoint is one number. */
export interface Journal {
  /** Notes that `owner` changed; its `undo` will be called once for this note, last note first. */
  note(owner: Journalled): void
}

export interface Journalled {
  /** Takes the last change that was noted, and not undone yet, back. */
  undo(): void
}

/** What the task does with a piece of state, beside what the operator does with it. */
export interface StateStructure extends Journalled {
  readonly format: string
  /** What has changed since the last `sealed`, as bytes; undefined if nothing. Changes nothing itself. */
  delta(): Uint8Array | undefined
  /** The delta is on its way to the store: what was noted in the journal is never undone. */
  sealed(): void
  /** Takes in the stored blobs, oldest first. Called once, before anything else. */
  load(blobs: readonly { readonly id: number; readonly format: string; readonly bytes: Uint8Array }[]): void
  /** Bytes held in memory, about. */
  readonly memory: number
  /** Live entries, about. */
  readonly size: number
}
