/**
 * The store port: where a task keeps its positions, its operators' state and its staged batches, in one transaction a
 * commit. Stores are in `state/`; all of them pass one conformance suite.
 */
import type { MillraceError } from './errors.ts'

/** A sink's encoded output of one epoch, or a part of it, as it is stored. */
export interface StagedBatch {
  /** Unique for good; see `Delivery.name`. */
  readonly name: string
  readonly sink: string
  readonly head: string
  readonly rows: number
  readonly body: Uint8Array
  /** When it was staged, epoch milliseconds of the task's clock. */
  readonly stagedAt: number
  /** The smallest and the largest event time of its rows, and when the first of its records arrived. */
  readonly oldest: number
  readonly newest: number
  readonly arrived: number
}

/** A staged batch as it is listed at opening; its body is read when it is its turn. */
export interface StoredBatch extends Omit<StagedBatch, 'body'> {
  /** Bytes of the body. */
  readonly size: number
  /** The group that it was recorded to be sent with. */
  readonly group?: string
  /** Attempts that were recorded with `attempts`. */
  readonly attempts: number
}

/** A record, a timer or a row that was set aside, with its reason. */
export interface DeadLetter {
  /** The source and partition that it came from, and its place there; of a timer or row, the cause. */
  readonly source: string
  readonly partition: number
  readonly position: number
  /** When it was set aside, epoch milliseconds of the task's clock. */
  readonly at: number
  /** Where it failed: `decode`, an operator's or a sink's name. */
  readonly where: string
  readonly code: string
  readonly reason: string
  readonly key?: string
  /** Event time, where the record got that far. */
  readonly time?: number
  /** The record as it was read; of a sink's row, its encoded text. */
  readonly bytes: Uint8Array
}

/** A dead letter as it is listed. */
export interface StoredDeadLetter extends DeadLetter {
  /** Its number in the store, from 1. */
  readonly id: number
  readonly task: string
}

/** One piece of an operator's state: what one epoch changed, or what compaction made of several. */
export interface StateBlob {
  /** The operator's name and the state's own: `dedup/seen`. */
  readonly slot: string
  /** How the bytes are to be read: `expiring-set`, `table`, `timers`, with the version of the format. */
  readonly format: string
  readonly bytes: Uint8Array
}

/** A blob as it is given back at opening, oldest first. Blobs of a slot follow one another without a gap. */
export interface StoredBlob extends StateBlob {
  readonly id: number
}

/** What a lane has done since the last commit. */
export interface LaneChange {
  readonly sink: string
  /** Batches that have been answered for, by name. */
  readonly remove?: readonly string[]
  /** The receipt of the last of them. */
  readonly receipt?: string
  /** A batch that takes the place of one that is removed in the same change, at its place in the lane. */
  readonly replace?: { readonly of: string; readonly by: StagedBatch }
  /** Batches that are about to be sent together under a name of their own, oldest first. */
  readonly group?: { readonly name: string; readonly members: readonly string[] }
  /** A group that surely took no effect, and whose members go one by one from now on, under their own names. */
  readonly ungroup?: string
  /** Batches of which an attempt is about to be made (`windowed` and `ledger` sinks). */
  readonly attempts?: readonly string[]
}

/** Several blobs of one slot, one after the other in their order, become one that says the same. */
export interface Compaction {
  readonly slot: string
  readonly format: string
  /** Ids of blobs that follow one another. */
  readonly replaces: readonly number[]
  /** What stands in their place; absent when nothing of them is left. */
  readonly bytes?: Uint8Array
}

/** One change of one task, applied whole or not at all. */
export interface Change {
  /** `pipeline/stage/partition`. */
  readonly task: string
  /** From `open`. A change under a fence that was raised since is refused. */
  readonly fence: number
  /** The epoch that this commits: the one after the last. Absent for changes between epochs. */
  readonly epoch?: number
  /** Positions, watermarks, clocks, counts, fingerprint: the engine's own JSON, replaced whole. */
  readonly facts?: string
  readonly blobs?: readonly StateBlob[]
  readonly staged?: readonly StagedBatch[]
  readonly deadLetters?: readonly DeadLetter[]
  readonly lanes?: readonly LaneChange[]
  readonly compactions?: readonly Compaction[]
  /** Slots whose state goes, whole. */
  readonly dropSlots?: readonly string[]
  /** Slots that get another name. */
  readonly renameSlots?: Readonly<Record<string, string>>
}

/**
 * How a commit ended. `failed`: for sure nothing of it was applied (the disk is full, say), and the error says what to
 * do. `unknown`: it may have been; nothing may be undone or built upon until the store is opened again. `blobs` are the ids that the change's blobs got, in their order. */
export type CommitResult =
  | { readonly kind: 'committed'; readonly blobs: readonly number[]; readonly compacted: readonly number[] }
  | { readonly kind: 'fenced' }
  | { readonly kind: 'failed'; readonly error: MillraceError }
  | { readonly kind: 'unknown'; readonly reason: string }

/** A task's stored life. */
export interface OpenedTask {
  /** Raised by this opening: earlier openings can no longer commit. */
  readonly fence: number
  /** The last epoch that was committed; 0 before the first. */
  readonly epoch: number
  /** Empty before the first commit. */
  readonly facts: string | undefined
  readonly blobs: readonly StoredBlob[]
  /** Every lane's batches, each lane in its order. */
  readonly batches: readonly StoredBatch[]
  /** The last receipt of each sink. */
  readonly receipts: Readonly<Record<string, string>>
  /** How many openings in a row have died before their first commit (engine rule 11). */
  readonly deaths: number
}

/** Blobs of one slot that are to be read and merged, off the main thread. */
export interface MergeRequest {
  readonly slot: string
  readonly format: string
  /** Ids of blobs that follow one another. */
  readonly blobs: readonly number[]
  /** They are the oldest of the slot: what deletes an older entry need not be kept. */
  readonly oldest: boolean
  /** What is dead at this watermark is dropped. */
  readonly horizon: number
}

/** Where tasks keep what they must not lose. */
export interface Store {
  /** Drawn once, when the store is made; fingerprints are keyed with the secret. */
  readonly id: string
  readonly secret: Uint8Array
  /**
   * Workers of other processes use it, too, over a network: a commit whose outcome is not known is no reason to stop; the
   * task is opened again, and the store then knows.
   */
  readonly shared?: boolean
  /**
   * Opens a task: raises its fence, counts a death (cleared by the first commit of an epoch), gives what is stored.
   *
   * @throws MillraceError STATE_DAMAGED when a checksum fails
   */
  open(task: string): Promise<OpenedTask>
  /** Applies a change, together with others that wait, in one durable transaction. Changes of a task apply in order. */
  commit(change: Change): Promise<CommitResult>
  /**
   * A staged batch's bytes.
   *
   * @throws MillraceError STATE_DAMAGED when its checksum fails
   */
  body(task: string, name: string): Promise<Uint8Array>
  /**
   * What the blobs say together, as one (undefined when nothing is left of them); it changes nothing: install it with
   * `Change.compactions`.
   */
  merge(task: string, request: MergeRequest): Promise<Uint8Array | undefined>
  /** Every task that the store knows, in the order of their names. */
  tasks(): Promise<readonly string[]>
  /** Ends what is under way, and frees the store. */
  close(): Promise<void>
}
