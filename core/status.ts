/** What a worker can say of itself at any moment, and at its end. Counts are of this run; totals of all runs say so. */
export interface WorkerStatus {
  readonly pipeline: string
  readonly state: 'starting' | 'running' | 'draining' | 'ended' | 'failed'
  /** Records taken from the sources. */
  readonly read: number
  readonly deadLetters: number
  /** Records that a `dedup` dropped. */
  readonly duplicates: number
  /** Records that came too late for an operator. */
  readonly late: number
  readonly epochs: number
  /** Seconds since the start. */
  readonly seconds: number
  readonly sources: Readonly<Record<string, SourceStatus>>
  readonly sinks: Readonly<Record<string, SinkStatus>>
  /** Keys that came through two partitions, by the source or operator that gave them; a sample of one in sixteen. */
  readonly strayKeys: Readonly<Record<string, number>>
  /** Now minus event time when a sink had answered, milliseconds. */
  readonly freshness: Quantiles
  /** From a record's arrival to the sink's answer, milliseconds. */
  readonly latency: Quantiles
}

export interface Quantiles {
  readonly p50: number | null
  readonly p99: number | null
}

export interface SourceStatus {
  readonly read: number
  /** What is left to read, in `unit`s; null when the source cannot say. */
  readonly lag: number | null
  readonly unit: 'records' | 'bytes'
  /** Where the stand-in is, when the source is one. */
  readonly standIn: string | null
  readonly partitions: number
  /** How many of them are this worker's. */
  readonly assigned: number
  /** Those whose state is being loaded, beside; null before its group has said which are its own. */
  readonly opening: number | null
  readonly ended: boolean
  /** The task stopped taking from it, because a lane is full. */
  readonly paused: boolean
}

export interface SinkStatus {
  /** Rows and batches that the sink has answered for. */
  readonly rows: number
  readonly batches: number
  readonly rejected: number
  readonly stagedBatches: number
  readonly stagedBytes: number
  /** Age of the oldest staged batch, milliseconds. */
  readonly stagedAge: number
  /** `retrying` with what went wrong last in `problem`; `parked` needs a person. */
  readonly state: 'ready' | 'retrying' | 'parked'
  readonly problem: string | null
  readonly standIn: string | null
  readonly guarantee: 'idempotent' | 'windowed' | 'ledger'
  /** Attempts by how they ended. */
  readonly outcomes: Readonly<Record<'applied' | 'rejected' | 'notSent' | 'unknown', number>>
  /** As the worker's, of this sink alone. */
  readonly freshness: Quantiles
  readonly latency: Quantiles
  /** The same of the last minute or two. */
  readonly recent: { readonly freshness: Quantiles; readonly latency: Quantiles }
}
