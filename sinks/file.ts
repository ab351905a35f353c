import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, extname, join, resolve } from 'node:path'
import { shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Encoder, OpenSink, Outcome, Sink } from '../core/sink.ts'
import type { ConnectorContext } from '../core/source.ts'
import { csvRow } from './csv.ts'

export interface FileOptions<T> {
  /** Where rows go: `out/orders.jsonl` becomes `out/orders-0.jsonl` for partition 0, and so on. Relative to the working directory. */
  path: string
  /** One JSON value a line, or comma-separated values under a header. @default by the path's ending: `.csv` is CSV, all else JSONL */
  format?: 'jsonl' | 'csv'
  /** The fields that a CSV has, in their order. */
  columns?: readonly (keyof T & string)[]
  /** What messages call the sink. @default 'file' */
  name?: string
}

/** What is stored with a batch that was applied: how long the file was then, and by which batch. */
interface Receipt {
  readonly path: string
  readonly length: number
  readonly batch: string
}

/** What is the same for all rows of a batch. */
interface Head {
  readonly format: 'jsonl' | 'csv'
  /** A CSV's first line. */
  readonly header: string
}

/** A task's file while it is open. */
interface Writing {
  readonly path: string
  readonly handle: FileHandle
  /** Bytes that are surely there, and the batch that they end with. */
  length: number
  batch: string | undefined
  /** The header that it has, once it has any bytes. */
  header: string | undefined
}

/** Files that this process writes: two sinks on one file would cut off each other's rows. */
const inUse = new Set<string>()

/**
 * Appends rows to a file a partition.
 *
 * Idempotent: the length of the file is stored with each batch that was applied, and when a task opens, or a batch is
 * sent again, what is beyond that length is cut off before anything is written. So every row is there once, and no line
 * is torn, whatever crashed when; who reads the file meanwhile takes complete lines only, and after a crash may have read
 * rows that are cut off and written again. A batch is applied when it is on the disk (fsync).
 *
 * The file must not be changed by others. It is refused when it is shorter than what was delivered, when it was there before
 * this data directory's first row, or when its columns are no longer those of the pipeline.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * events.to(file({ path: 'out/events.csv', columns: ['visitorId', 'type', 'occurredAt'] }))
 * ```
 */
export function file<T>({ path, format = formatOf(path), columns, name = 'file' }: FileOptions<T>): Sink<T> {
  const where = `file ${JSON.stringify(name)}`
  const wrong = (option: string, wanted: string, came: unknown) =>
    new MillraceError('BAD_OPTION', `${where}: ${option} must be ${wanted}, got ${shown(came)}`)
  if (typeof path !== 'string' || path.trim() === '') throw wrong('path', 'the path of a file', path)
  if (format !== 'jsonl' && format !== 'csv') throw wrong('format', "'jsonl' or 'csv'", format)
  if (format === 'csv' && !isNames(columns))
    throw wrong('columns', 'a list of different field names for a CSV', columns)
  if (format === 'jsonl' && columns !== undefined)
    throw wrong('columns', 'absent for JSONL, which has all fields', columns)

  return {
    kind: 'file',
    guarantee: 'idempotent',
    touches: 'state',
    open: async (context) =>
      openFile(resolve(path), where, encoder({ format, columns: columns ?? [], where }), context),
  }
}

function openFile<T>(path: string, where: string, rows: Encoder<T>, context: ConnectorContext): OpenSink<T> {
  const { header } = JSON.parse(rows.head) as Head
  const tasks = new Map<string, Writing>()

  const release = async (task: string) => {
    const writing = tasks.get(task)
    tasks.delete(task)
    if (!writing) return
    inUse.delete(writing.path)
    await writing.handle.close()
  }

  return {
    identity: `file: ${path}`,
    limit: { bytes: 16_777_216 },
    encoder: () => rows,
    async attach(task, stored) {
      await release(task)
      const own = partitionPath(path, task)
      if (inUse.has(own)) {
        throw new MillraceError(
          'SINK_FAILED',
          `${where}: ${own} is written by another sink of this process: give each its own path`,
        )
      }
      inUse.add(own)
      try {
        tasks.set(task, await resume(own, task, receiptFor(own, stored), { where, header, context }))
      } catch (error) {
        inUse.delete(own)
        if (error instanceof MillraceError) throw error
        const problem = messageOf(error)
        throw new MillraceError(
          'SINK_FAILED',
          `${where}: ${own} cannot be written (${problem}): see that this user can write there`,
          { cause: error },
        )
      }
    },
    async deliver(delivery, signal): Promise<Outcome> {
      const writing = tasks.get(delivery.task)
      if (!writing) return { kind: 'notSent', reason: `${where}: the task is not attached` }
      if (signal.aborted) return { kind: 'notSent', reason: `${where}: given up before it was written` }
      if (writing.batch !== delivery.name) {
        const problem = await append(writing, delivery)
        if (problem) return { ...problem, reason: `${where}: ${problem.reason}` }
      }
      return {
        kind: 'applied',
        receipt: JSON.stringify({ path: writing.path, length: writing.length, batch: delivery.name } satisfies Receipt),
      }
    },
    async close() {
      for (const task of [...tasks.keys()]) await release(task)
    },
  }
}

/** Opens a task's file where its receipt says it ended, and cuts off the rest. */
async function resume(
  path: string,
  task: string,
  receipt: Receipt | undefined,
  { where, header, context }: { where: string; header: string; context: ConnectorContext },
): Promise<Writing> {
  if (!receipt) await claim(path, task, where, context)
  const length = receipt?.length ?? 0
  const size = await sizeOf(path)
  if (size < length) {
    throw new MillraceError(
      'SINK_CHANGED',
      `${where}: ${path} has ${size} bytes, and ${length} were delivered to it: put the whole file back, or name another path to begin a new one`,
    )
  }
  await mkdir(dirname(path), { recursive: true })
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT)
  try {
    await syncFolder(dirname(path))
    if (size > length) await handle.truncate(length)
    const known = Buffer.alloc(Math.min(length, Buffer.byteLength(header)))
    await handle.read(known, 0, known.length, 0)
    if (length > 0 && known.toString() !== header) {
      throw new MillraceError(
        'SINK_CHANGED',
        `${where}: ${path} was begun with other columns: give back the former ones, or name another path`,
      )
    }
    return { path, handle, length, batch: receipt?.batch, header: length > 0 ? header : undefined }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/**
 * Makes sure that what is in a file of which no row was answered for is ours to cut off. The claim is kept in the data
 * directory from before the first row.
 */
async function claim(
  path: string,
  task: string,
  where: string,
  { dataDir, pipeline, output }: ConnectorContext,
): Promise<void> {
  const folder = join(dataDir, 'files')
  const note = join(folder, `${createHash('sha256').update(path).digest('hex').slice(0, 16)}.json`)
  const ours = `${JSON.stringify({ path, pipeline, output: output ?? null, task })}\n`
  if ((await readFile(note, 'utf8').catch(() => '')) === ours) return
  if ((await sizeOf(path)) > 0) {
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: ${path} is there already, and not from this output: move it away, or name another path`,
    )
  }
  await mkdir(folder, { recursive: true })
  await writeFile(note, ours, { flush: true })
  await syncFolder(folder)
}

/** Writes a batch at the end, and undoes what it can if that fails. Undefined when it is on the disk. */
async function append(
  writing: Writing,
  { head, body, name }: { head: string; body: Uint8Array; name: string },
): Promise<Extract<Outcome, { reason: string }> | undefined> {
  const { path, handle, length } = writing
  const { header } = JSON.parse(head) as Head
  if (writing.header !== undefined && writing.header !== header) {
    return {
      kind: 'rejected',
      retry: 'later',
      reason: `${path} was begun with other columns than this batch has: name another path`,
    }
  }
  try {
    const [there, ours] = await Promise.all([stat(path).catch(() => undefined), handle.stat()])
    if (there?.ino !== ours.ino || ours.size < length) {
      const found = there ? `is not what was written (${ours.size} of ${length} bytes)` : 'was taken away'
      return { kind: 'rejected', retry: 'later', reason: `${path} ${found}: put it back and start again` }
    }
    if (ours.size > length) await handle.truncate(length)
    const bytes = length === 0 && header !== '' ? Buffer.concat([Buffer.from(header), body]) : body
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, length + done)
      done += bytesWritten
    }
    await handle.datasync()
    writing.length = length + bytes.length
    writing.batch = name
    writing.header = header
    return undefined
  } catch (error) {
    const reason = `${path}: ${messageOf(error)}`
    const undone = await handle.truncate(length).then(
      () => true,
      () => false,
    )
    return undone ? { kind: 'rejected', retry: 'later', reason } : { kind: 'unknown', reason }
  }
}

function encoder<T>({
  format,
  columns,
  where,
}: {
  format: 'jsonl' | 'csv'
  columns: readonly (keyof T & string)[]
  where: string
}): Encoder<T> {
  const head: Head = { format, header: format === 'csv' ? csvRow(columns) : '' }
  const unfit = (came: unknown) =>
    new MillraceError(
      'NOT_JSON',
      `${where}: a row must be ${format === 'csv' ? 'an object' : 'JSON'}, got ${shown(came)}`,
    )
  return {
    head: JSON.stringify(head),
    row(value) {
      if (format === 'csv') {
        if (typeof value !== 'object' || value === null) throw unfit(value)
        return csvRow(columns.map((column) => value[column]))
      }
      const text: string | undefined = JSON.stringify(value)
      if (text === undefined) throw unfit(value)
      return `${text}\n`
    },
  }
}

/** `orders.jsonl` of the task `shop/main/3` is `orders-3.jsonl`. */
function partitionPath(path: string, task: string): string {
  const ending = extname(path)
  return `${path.slice(0, path.length - ending.length)}-${task.slice(task.lastIndexOf('/') + 1)}${ending}`
}

/** A receipt of another path says nothing of this one: the sink was given a new file. */
function receiptFor(path: string, stored: string | undefined): Receipt | undefined {
  const receipt = stored === undefined ? undefined : (JSON.parse(stored) as Receipt)
  return receipt?.path === path ? receipt : undefined
}

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    (found) => found.size,
    () => 0,
  )

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}

const formatOf = (path: unknown) => (typeof path === 'string' && path.toLowerCase().endsWith('.csv') ? 'csv' : 'jsonl')

const isNames = (columns: unknown): columns is readonly string[] =>
  Array.isArray(columns) &&
  columns.length > 0 &&
  columns.every((column) => typeof column === 'string' && column !== '') &&
  new Set(columns).size === columns.length
