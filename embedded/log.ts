import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bytes, type Duration, milliseconds, type Size, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import type { ReadFrom } from '../core/source.ts'
import type { BatchNames, LogEntry } from './log-batch.ts'
import { partitionOf } from './log-partitioner.ts'
import { findMarks, type Marks, offsetAt, PartitionReader } from './log-reader.ts'
import { dropSegments, syncFolder } from './log-segment.ts'
import { type Appended, PartitionWriter } from './log-writer.ts'

export interface LogOptions {
  /** The folder that the stand-ins keep their files in; the log is in `logs/<log>` below it. */
  dataDir: string
  /** Its name: letters, digits, `.`, `_` and `-`. */
  log: string
  /** How many partitions. @default what it was made with, and 1 when it is made */
  partitions?: number
  /** A new segment is begun after so much; segments are what retention drops. @default '64MB' */
  segment?: Size
  /** Full segments are dropped when their newest record is older. @default kept for ever */
  keepFor?: Duration
  /** The oldest full segments are dropped when a partition has more than this in them. @default no bound */
  keepBytes?: Size
  /** When an append has resolved, it is on the disk (`append`), or with the system, which writes it soon (`none`). @default 'append' */
  sync?: 'append' | 'none'
  runtime: Runtime
}

/** A log in a folder: partitions of records, appended at the end and read by offset, by any number of processes. */
export interface Log {
  readonly log: string
  /** Drawn when the log was made: a log that was made anew has another. */
  readonly id: string
  readonly folder: string
  readonly partitions: number
  /** Appends to one partition, in one write: all of the records or none. */
  append(partition: number, entries: readonly LogEntry[], names?: BatchNames): Promise<Appended>
  /**
   * Appends each record to its key's partition, as Kafka's default partitioner would choose it; those without a key go
   * together to one. With `names`, a repeat of a batch that failed halfway appends what is missing, and nothing twice.
   */
  produce(entries: readonly LogEntry[], names?: BatchNames): Promise<void>
  /** @throws MillraceError SOURCE_CHANGED when `from` is not between the marks, or its record is another */
  reader(partition: number, from: number | ReadFrom, options?: { end?: number }): Promise<PartitionReader>
  marks(partition: number): Promise<Marks>
  /** The first offset whose record has a timestamp (epoch milliseconds) of `time` or later, else the high mark. */
  offsetAt(partition: number, time: number): Promise<number>
  /** Drops whole segments, never the last, of which no record is at `before` or behind it: they will not be read again. */
  trim(partition: number, before: number): Promise<void>
  /** Waits for running appends, and frees what it holds. Readers are closed by who opened them. */
  close(): Promise<void>
}

interface Meta {
  readonly version: 1
  readonly id: string
  readonly partitions: number
}

/**
 * Opens the embedded partitioned log, and makes it on first use.
 *
 * An append that was answered for survives a crash of the process and, with `sync: 'append'`, of the machine; one that
 * was cut short is undone by the next append. Appends of several processes to one partition wait for each other.
 *
 * @throws MillraceError BAD_OPTION when the log has another number of partitions
 */
export async function openLog(options: LogOptions): Promise<Log> {
  const { dataDir, log, runtime, segment = '64MB', keepFor, keepBytes, sync = 'append' } = options
  const where = `log ${shown(log)}`
  checkLogName(log, 'log')
  checkPartitions(options.partitions, where)
  const writerOptions = {
    segmentBytes: bytes(segment, `${where}: segment`),
    keepFor: keepFor === undefined ? Number.POSITIVE_INFINITY : milliseconds(keepFor, `${where}: keepFor`),
    keepBytes: keepBytes === undefined ? Number.POSITIVE_INFINITY : bytes(keepBytes, `${where}: keepBytes`),
    sync: sync === 'append',
  }
  const folder = join(dataDir, 'logs', log)
  const { id, partitions } = await readMeta(folder, options.partitions ?? 1, runtime)
  if (options.partitions !== undefined && options.partitions !== partitions) {
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: it has ${partitions} partition${partitions === 1 ? '' : 's'}, and ${options.partitions} were asked for; ` +
        `say \`partitions: ${partitions}\`, or use a log with another name`,
    )
  }
  const folders = Array.from({ length: partitions }, (_, partition) => join(folder, String(partition)))
  await Promise.all(folders.map((path) => mkdir(path, { recursive: true })))
  const writers: (PartitionWriter | undefined)[] = []
  const folderOf = (partition: number) => {
    const path = folders[partition]
    if (path !== undefined) return path
    throw new MillraceError('BAD_OPTION', `${where}: it has partitions 0 to ${partitions - 1}, got ${shown(partition)}`)
  }
  const append = async (partition: number, entries: readonly LogEntry[], names?: BatchNames) => {
    const path = folderOf(partition)
    if (entries.length === 0) return { base: undefined }
    writers[partition] ??= new PartitionWriter(path, runtime, writerOptions)
    return writers[partition].append(entries, names)
  }
  let turn = 0
  return {
    log,
    id,
    folder,
    partitions,
    append,
    async produce(entries, names) {
      // A repeat of a batch must go where the batch went.
      const keyless = names === undefined ? turn++ % partitions : partitionOf(names.batch, partitions)
      const parts: LogEntry[][] = Array.from({ length: partitions }, () => [])
      for (const entry of entries) parts[entry.key == null ? keyless : partitionOf(entry.key, partitions)]!.push(entry)
      const done = await Promise.allSettled(parts.map((part, partition) => append(partition, part, names)))
      for (const one of done) if (one.status === 'rejected') throw one.reason
    },
    reader: async (partition, from, readerOptions) =>
      PartitionReader.open(folderOf(partition), from, runtime, readerOptions),
    marks: async (partition) => findMarks(folderOf(partition)),
    offsetAt: async (partition, time) => offsetAt(folderOf(partition), time),
    trim: (partition, before) => dropSegments(folderOf(partition), before),
    async close() {
      await Promise.all(writers.map((writer) => writer?.close()))
    },
  }
}

/** @throws MillraceError BAD_OPTION when a log cannot be named so */
export function checkLogName(name: string, where: string): void {
  if (/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/.test(name)) return
  throw new MillraceError(
    'BAD_OPTION',
    `${where}: a log is named by up to 249 letters, digits, '.', '_' and '-', such as 'shop.events', got ${shown(name)}`,
  )
}

/** @throws MillraceError BAD_OPTION when it is no number of partitions */
export function checkPartitions(partitions: number | undefined, where: string): void {
  if (partitions === undefined || (Number.isInteger(partitions) && partitions >= 1 && partitions <= 1_024)) return
  throw new MillraceError(
    'BAD_OPTION',
    `${where}: partitions must be a whole number from 1 to 1024, got ${shown(partitions)}`,
  )
}

async function readMeta(folder: string, partitions: number, runtime: Runtime): Promise<Meta> {
  const path = join(folder, 'log.json')
  const text = await readFile(path, 'utf8').catch(async (error) => {
    if (error.code !== 'ENOENT') throw error
    // Linked into place whole: of two that make the log at once, one wins and both read the same.
    await mkdir(folder, { recursive: true })
    const id = runtime.id()
    const draft = join(folder, `log.${id}.draft`)
    await writeFile(draft, JSON.stringify({ version: 1, id, partitions } satisfies Meta), { flush: true })
    await link(draft, path).catch((failure) => {
      if (failure.code !== 'EEXIST') throw failure
    })
    await rm(draft)
    await syncFolder(folder)
    return readFile(path, 'utf8')
  })
  const meta = JSON.parse(text) as Meta
  if (meta.version === 1) return meta
  throw new MillraceError('STATE_TOO_NEW', `${path}: it was made by a newer version of Millrace; use that version`)
}
