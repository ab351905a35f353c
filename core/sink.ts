import type { ConnectorContext } from './source.ts'

/**
 * What a sink's system does with a batch that is sent again: `idempotent`, it absorbs the repeat; `windowed`, it does so
 * for a stated time, after which a batch of unknown outcome is parked and never sent blindly; `ledger`, it cannot.
 */
export type Guarantee = 'idempotent' | 'windowed' | 'ledger'

/** One row that the sink's system will not take, by its place in the batch. */
export interface RowRejection {
  readonly row: number
  readonly reason: string
}

/**
 * How an attempt to deliver ended: a closed set.
 *
 * - `applied`: all rows took effect, but for those in `rejected`, which go to the dead letters. The receipt is stored
 *   with the batch's deletion, and given back when the task is opened.
 * - `rejected`: no row took effect. With `retry: 'later'` the batch is sent again as it is; with `never`, the rows named
 *   go to the dead letters and the rest is sent as a batch of its own; with none named, all of them are.
 * - `notSent`: the system was not reached. Sent again.
 * - `unknown`: it may have taken effect, or still may. Only ever sent again with the same name and the same bytes.
 */
export type Outcome =
  | { readonly kind: 'applied'; readonly receipt?: string; readonly rejected?: readonly RowRejection[] }
  | { readonly kind: 'rejected'; readonly retry: 'later'; readonly reason: string; readonly retryAfter?: number }
  | {
      readonly kind: 'rejected'
      readonly retry: 'never'
      readonly reason: string
      readonly rows?: readonly RowRejection[]
    }
  | { readonly kind: 'notSent'; readonly reason: string; readonly retryAfter?: number }
  | { readonly kind: 'unknown'; readonly reason: string; readonly retryAfter?: number }

/** One batch on its way: the same name and the same bytes at every attempt. */
export interface Delivery {
  /** `life/pipeline/stage/partition/epoch/sink/chunk`, or a group's name: unique for good. */
  readonly name: string
  /** The task that staged it: `pipeline/stage/partition`. */
  readonly task: string
  /** What the encoder's `head` was when the batch was staged: columns, table, format. */
  readonly head: string
  /** The rows' texts, one after the other, in UTF-8. */
  readonly body: Uint8Array
  readonly rows: number
  /** When it was staged, epoch milliseconds of the task's clock. */
  readonly stagedAt: number
  /** 1 for the first. Attempts of before a restart are counted only when they were recorded. */
  readonly attempt: number
  /** An earlier attempt, perhaps of before a crash, may have taken effect. */
  readonly afterUnknown: boolean
}

/** What an encoder is told about a row beside its value. */
export interface RowMeta {
  readonly key: string
  /** Event time, epoch milliseconds. */
  readonly time: number
  /** What caused the row: the record's place, or the operator, key and due time of a timer. The same in every life. */
  readonly cause: string
  /** The task's clock at this record. */
  now(): number
  /** A number that is larger for each row than for all before, in every life: for last-write-wins (engine rule 19). */
  version(): number
}

/** Turns a task's rows into the bytes that will be sent. It runs within the record's push: a throw is the record's. */
export interface Encoder<T> {
  /** All of the request that is the same for every row but address and credentials. Kept with each batch. */
  readonly head: string
  /** The text of one row, with its line end where the format has one. Bodies are these texts one after the other. */
  row(value: T, meta: RowMeta): string
}

/** Bounds of what is sent as one. */
export interface GroupLimit {
  readonly rows: number
  readonly bytes: number
  /**
   * Whether the sink knows of each row whether it took effect, and not only of each request by its name: then what goes
   * together may change after a restart, and needs no commit of its own before it is sent. @default false
   */
  readonly rowwise?: boolean
}

/** A sink that has been connected to its system, once a worker. */
export interface OpenSink<T> {
  /** Names the system and the place in it; staged batches belong to it. The same text at every start. */
  readonly identity: string
  /** Says, in a few words, which stand-in was taken and where it is; absent when the system is real. */
  readonly standIn?: string
  /** The guarantee here, where it is less than the sink's own. */
  readonly guarantee?: Guarantee
  /** Bounds of one batch; the engine cuts an epoch's rows into chunks by them. */
  readonly limit?: { readonly rows?: number; readonly bytes?: number }
  /** Batches with equal heads may be sent as one, up to these bounds, under the group's name. Absent: one by one. */
  readonly group?: GroupLimit
  /** Not more than one request in this many milliseconds, over all tasks of the worker, while younger batches can wait. */
  readonly pace?: number
  /** Called when a task opens, before its first delivery, with the receipt that was stored last. */
  attach?(task: string, receipt: string | undefined): Promise<void>
  encoder(task: string): Encoder<T>
  /**
   * Sends one batch. It resolves with an outcome; a throw counts as `unknown`. When the signal aborts, it gives up and
   * says what is known. Deliveries of one task come one at a time; those of several tasks come side by side.
   */
  deliver(delivery: Delivery, signal: AbortSignal): Promise<Outcome>
  close(): Promise<void>
}

/** The port that a connector's author implements to write to a system. */
export interface Sink<in T = never> {
  /** What kind of system, as in `clickhouse`. */
  readonly kind: string
  readonly guarantee: Guarantee
  /** Whether what it does reaches people: then it is captured unless the run is live. */
  readonly touches: 'state' | 'people'
  /** Whether the rows of a key must take effect in their order. @default 'lane' */
  readonly order?: 'lane' | 'none'
  /** The system that it needs to be real, as `--stand-in` names it: `clickhouse`. Absent when it has no stand-in. */
  readonly system?: string
  open(context: ConnectorContext): Promise<OpenSink<T>>
  /** Its encoder, for a sink that needs no system to know it: tests see what would be sent. */
  dry?(place: { readonly pipeline: string; readonly output: string }): Encoder<T>
}
