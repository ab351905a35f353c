import type { Group } from './group.ts'
import type { Logger } from './logger.ts'
import type { Metrics } from './metrics.ts'
import type { Runtime } from './runtime.ts'

/** What every connector, source or sink, is opened with. */
export interface ConnectorContext {
  /** The pipeline's name. */
  readonly pipeline: string
  /** The stage of it that the connector serves: `main`, or what stands behind a channel. */
  readonly stage: string
  /** The name of the pipeline's output that a sink serves, which is its lane's; absent for a source. */
  readonly output?: string
  /** The folder that the stand-ins keep their files in. */
  readonly dataDir: string
  /** Where a connector looks for its system: `KAFKA_BROKERS`, `CLICKHOUSE_URL`, … */
  readonly env: Readonly<Record<string, string | undefined>>
  /** People are only reached when this is true (engine rule 27). */
  readonly live: boolean
  /**
   * The Standard Schema of what reaches the sink, where that is still what its source's schema says: a sink may make
   * its table after it. Absent for sources, and behind an operator that shapes its values.
   */
  readonly rowSchema?: unknown
  readonly runtime: Runtime
  readonly logger: Logger
  readonly metrics: Metrics
  /**
   * What several connectors of one stage of a worker use together, such as a connection or a consumer group: made by the first that
   * asks for it under a name, and given to the others.
   */
  share<T>(name: string, make: () => T): T
}

/** One record as a source read it, before it is decoded. */
export interface RawRecord {
  /** Its place in the partition. Places only grow. */
  readonly position: number
  /** The place to read on from after it. */
  readonly next: number
  /** What the source's `decode` takes: text, bytes, or a value that is decoded already. `null` is a tombstone. */
  readonly value: unknown
  /** The record exactly as it was read, for the dead letters and for the checksum of a position. */
  bytes(): Uint8Array
  /** When the system that keeps it took it in, epoch milliseconds, where it says so. */
  readonly timestamp?: number
  readonly key?: string | null
  readonly headers?: Readonly<Record<string, string>>
  /** Who wrote it, and which of its records it is, where it says so. Sequences only grow: a task drops what it has had. */
  readonly writer?: { readonly name: string; readonly sequence: number } | undefined
}

/** Where a reader goes on: after the record that ended at `next`, whose bytes had this CRC-32. */
export interface ReadFrom {
  readonly next: number
  readonly last?: { readonly position: number; readonly checksum: number }
}

/**
 * Reads one partition, in order, when it is asked: not asking is the back-pressure. A reader of a system that pushes
 * keeps a bounded buffer, and pauses the system when it is full.
 */
export interface Reader {
  /**
   * The next records, at most so many and about so many bytes (always at least one if there is one). An empty list
   * says that the partition is read to its head for now; `null`, that it has ended for good.
   *
   * @throws MillraceError SOURCE_FAILED, with `retriable` when the same call may succeed later
   */
  read(limit: { readonly records: number; readonly bytes: number }): Promise<readonly RawRecord[] | null>
  /** Resolves when a further `read` may give something, or the signal aborts. */
  more(signal: AbortSignal): Promise<void>
  /** What is left to read, as far as is known, in `unit`s; for lag. */
  lag(): Promise<number | undefined>
  close(): Promise<void>
}

/** A source that has been connected to its system. */
export interface OpenSource {
  /** Names the system and the stream in it; stored positions belong to it. The same text at every start. */
  readonly identity: string
  readonly partitions: number
  /** In what lag is counted. */
  readonly unit: 'records' | 'bytes'
  /** Says, in a few words, which stand-in was taken and where it is; absent when the system is real. */
  readonly standIn?: string
  /** Who hands its partitions out to several workers; absent where each worker reads them all. Shared by the sources that are assigned together. */
  readonly group?: Group
  /** The value of a record. A throw makes the record a dead letter. */
  decode(record: RawRecord): unknown
  /**
   * A reader of a partition, from the beginning (as the source's options say) or from where it stopped.
   *
   * @throws MillraceError SOURCE_CHANGED when what stands before `from` is not what was read: the log was cut, made
   * anew, or is another
   */
  reader(partition: number, from: ReadFrom | undefined): Promise<Reader>
  /** What is before a position will not be read again, and may go; only channels between stages are told. */
  trim?(partition: number, before: number): Promise<void>
  close(): Promise<void>
}

/** The port that a connector's author implements to read from a system. */
export interface Source {
  /** What kind of system, as in `kafka`. */
  readonly kind: string
  /** The stream's name in its system; `--input NAME=PATH` and the metrics use it. */
  readonly name: string
  /** The system that it needs to be real, as `--stand-in` names it: `kafka`. Absent when it has no stand-in. */
  readonly system?: string
  /**
   * @param untilEnd read what there is now, and then end (`Reader.read` gives null), even if more may come later
   */
  open(context: ConnectorContext, options: { readonly untilEnd: boolean }): Promise<OpenSource>
}
