/** How the state file is laid out, and how every row of it proves that it is what was written. */
import type { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { StagedBatch, StoredBatch, StoredDeadLetter } from '../core/store.ts'

/** The version of the layout. A file of a later one is refused. */
export const FORMAT = 1
/** Blobs and bodies are kept in rows of at most so many bytes. */
export const PIECE_BYTES = 1_048_576
export const PAGE_BYTES = 8_192
/** What is left of the write-ahead log for the thread that commits to copy: it takes a few milliseconds. */
export const LAST_BIT_BYTES = 4 * PIECE_BYTES

/**
 * The tables. Each row that matters is a JSON text with a checksum over itself and its identity; a task's row also holds
 * the number and the combined checksum of the rows that belong to it, so that a row that is missing is noticed.
 */
export const SCHEMA: Readonly<Record<string, string>> = {
  meta: 'CREATE TABLE meta (id INTEGER PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) STRICT',
  tasks: 'CREATE TABLE tasks (id INTEGER PRIMARY KEY, value TEXT NOT NULL, facts TEXT, crc INTEGER NOT NULL) STRICT',
  blobs:
    'CREATE TABLE blobs (task INTEGER NOT NULL, id INTEGER NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (task, id)) STRICT, WITHOUT ROWID',
  batches:
    'CREATE TABLE batches (task INTEGER NOT NULL, id INTEGER NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (task, id)) STRICT, WITHOUT ROWID',
  dead_letters:
    'CREATE TABLE dead_letters (id INTEGER PRIMARY KEY, value TEXT NOT NULL, bytes BLOB NOT NULL, crc INTEGER NOT NULL) STRICT',
  pieces: 'CREATE TABLE pieces (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT',
  loose: 'CREATE TABLE loose (first INTEGER PRIMARY KEY, pieces INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT',
}

/** What the store was born with. */
export interface Identity {
  readonly format: number
  readonly id: string
  /** 32 bytes, in hexadecimal. */
  readonly secret: string
}

/** How far the store has come; written with every commit. */
export interface Progress {
  commits: number
  /** The number that the next task, blob, batch or piece gets. */
  next: number
  /** The number of the last dead letter. */
  letters: number
  /** The rows of the tasks. */
  tasks: Tally
}

/** How many rows there are, and the exclusive or of their checksums. */
export type Tally = [count: number, sum: number]

/** Where bytes are kept: in `pieces` rows from `first` on. */
export interface Content {
  readonly first: number
  readonly pieces: number
  readonly size: number
  readonly sum: number
}

export interface TaskRow {
  id: number
  crc: number
  name: string
  fence: number
  epoch: number
  deaths: number
  facts: string | undefined
  receipts: Record<string, string>
  blobs: Tally
  batches: Tally
  letters: Tally
}

export interface BlobRow {
  readonly id: number
  crc: number
  slot: string
  readonly format: string
  /** Its place in the slot. */
  readonly order: number
  readonly content: Content
}

export interface BatchRow extends Omit<StagedBatch, 'body'> {
  readonly id: number
  crc: number
  /** Its place in the lane. */
  readonly order: number
  attempts: number
  group?: string
  readonly content: Content
}

/** The checksum of a row: over its table, its key and what it says. */
export function rowSum(table: string, key: number | string, text: string, more: string | Uint8Array = ''): number {
  return crc32(more, crc32(text, crc32(`${table} ${key} `)))
}

/** Takes a row's checksum in, or out. */
export function tally(into: Tally, change: 1 | -1, sum: number): void {
  into[0] += change
  into[1] = (into[1] ^ sum) >>> 0
}

export function taskText(task: TaskRow): string {
  const { name, fence, epoch, deaths, facts, receipts, blobs, batches, letters } = task
  return JSON.stringify({ name, fence, epoch, deaths, facts: facts?.length ?? -1, receipts, blobs, batches, letters })
}

export function blobText({ slot, format, order, content }: BlobRow): string {
  return JSON.stringify({ slot, format, order, content })
}

export function batchText(batch: BatchRow): string {
  const { order, attempts, group, name, sink, head, rows, stagedAt, oldest, newest, arrived, content } = batch
  const times = [stagedAt, oldest, newest, arrived].map(storable)
  return JSON.stringify({ order, attempts, group, name, sink, head, rows, times, content })
}

export function letterText(letter: Omit<StoredDeadLetter, 'id'>): string {
  const { task, source, partition, position, at, where, code, reason, key, time, bytes } = letter
  const size = bytes.byteLength
  const when = time === undefined ? undefined : storable(time)
  return JSON.stringify({
    task,
    source,
    partition,
    position: storable(position),
    at,
    where,
    code,
    reason,
    key,
    time: when,
    size,
  })
}

/** A batch as it is listed. */
export function storedBatch({ id: _id, crc: _crc, order: _order, content, ...batch }: BatchRow): StoredBatch {
  return { ...batch, size: content.size }
}

/** Reads and checks the rows; what fails its check is thrown as STATE_DAMAGED. */
export interface StateReader {
  progress(): Progress
  tasks(progress: Progress): TaskRow[]
  /** A task's blobs, each slot's oldest first. */
  blobs(task: TaskRow): BlobRow[]
  blob(task: number, id: number): BlobRow | undefined
  /** A task's batches, each lane in its order. */
  batches(task: TaskRow): BatchRow[]
  /** The numbers of the dead letters after one, with their rows' texts; at most `limit`. */
  letters(after: number, limit: number): StoredDeadLetter[]
  letter(id: number): StoredDeadLetter | undefined
  loose(): { first: number; pieces: number }[]
  /** Bytes of one's own, in a buffer that holds nothing else. */
  content(content: Content, what: string): Uint8Array<ArrayBuffer>
}

/** What the store was born with: the one row that every version of Millrace can read. */
export function readIdentity(db: DatabaseSync, path: string): Identity {
  return metaRow<Identity>(db, path, 1)
}

function metaRow<T>(db: DatabaseSync, path: string, id: number): T {
  const row = db.prepare('SELECT value, crc FROM meta WHERE id = ?').get(id) as Row | undefined
  if (row === undefined) throw damaged(path, `row ${id} of meta is missing`)
  return checkedRow<T>(path, 'meta', id, row)
}

function checkedRow<T>(path: string, table: string, key: number | string, row: Row, more?: string | Uint8Array): T {
  const text = String(row.value)
  if (rowSum(table, key, text, more) !== row.crc) throw damaged(path, `row ${key} of ${table} fails its checksum`)
  return JSON.parse(text) as T
}

export function stateReader(db: DatabaseSync, path: string): StateReader {
  const list = (table: string) => db.prepare(`SELECT id, value, crc FROM ${table} WHERE task = ?`)
  const statements = {
    tasks: db.prepare('SELECT id, value, facts, crc FROM tasks'),
    blobs: list('blobs'),
    blob: db.prepare('SELECT value, crc FROM blobs WHERE task = ? AND id = ?'),
    batches: list('batches'),
    letters: db.prepare('SELECT id, value, bytes, crc FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?'),
    loose: db.prepare('SELECT first, pieces, crc FROM loose ORDER BY first'),
    piece: db.prepare('SELECT bytes FROM pieces WHERE id = ?'),
  }

  const checked = <T>(table: string, key: number | string, row: Row, more?: string | Uint8Array) =>
    checkedRow<T>(path, table, key, row, more)

  function agree(rows: readonly { crc: number }[], [count, sum]: Tally, what: string): void {
    const found = rows.reduce((all, row) => (all ^ row.crc) >>> 0, 0)
    if (rows.length !== count || found !== sum)
      throw damaged(path, `${what}: ${rows.length} rows where ${count} were written`)
  }

  function blobRow(task: number, id: number, row: Row): BlobRow {
    return { ...checked<Omit<BlobRow, 'id' | 'crc'>>('blobs', `${task}/${id}`, row), id, crc: row.crc }
  }

  function batchRow(task: number, id: number, row: Row): BatchRow {
    const { times, ...said } = checked<any>('batches', `${task}/${id}`, row)
    const [stagedAt, oldest, newest, arrived] = times.map(Number) as [number, number, number, number]
    return { id, crc: row.crc, ...said, stagedAt, oldest, newest, arrived }
  }

  function letter(row: Row & { id: number; bytes: Uint8Array<ArrayBuffer> }): StoredDeadLetter {
    const { size, position, time, ...said } = checked<any>('dead_letters', row.id, row, row.bytes)
    const when = time === undefined ? {} : { time: Number(time) }
    return { id: row.id, ...said, position: Number(position), ...when, bytes: row.bytes }
  }

  return {
    progress: () => metaRow<Progress>(db, path, 2),
    tasks(progress) {
      const rows = (statements.tasks.all() as unknown as (Row & { id: number; facts: string | null })[]).map((row) => ({
        ...checked<Omit<TaskRow, 'id' | 'crc' | 'facts'>>('tasks', row.id, row, row.facts ?? ''),
        id: row.id,
        crc: row.crc,
        facts: row.facts ?? undefined,
      }))
      agree(rows, progress.tasks, 'tasks')
      return rows
    },
    blobs(task) {
      const rows = (statements.blobs.all(task.id) as unknown as (Row & { id: number })[]).map((row) =>
        blobRow(task.id, row.id, row),
      )
      agree(rows, task.blobs, `state of ${task.name}`)
      return rows.sort((a, b) => a.order - b.order)
    },
    blob(task, id) {
      const row = statements.blob.get(task, id) as Row | undefined
      return row && blobRow(task, id, row)
    },
    batches(task) {
      const rows = (statements.batches.all(task.id) as unknown as (Row & { id: number })[]).map((row) =>
        batchRow(task.id, row.id, row),
      )
      agree(rows, task.batches, `staged batches of ${task.name}`)
      return rows.sort((a, b) => a.order - b.order)
    },
    letters: (after, limit) => (statements.letters.all(after, limit) as any[]).map(letter),
    letter: (id) => (statements.letters.all(id - 1, 1) as any[]).map(letter).find((found) => found.id === id),
    loose() {
      return (statements.loose.all() as { first: number; pieces: number; crc: number }[]).map(
        ({ first, pieces, crc }) => {
          if (rowSum('loose', first, String(pieces)) !== crc)
            throw damaged(path, `row ${first} of loose fails its checksum`)
          return { first, pieces }
        },
      )
    },
    content({ first, pieces, size, sum }, what) {
      let bytes: Uint8Array<ArrayBuffer> | undefined
      let at = 0
      for (let piece = first; piece < first + pieces; piece += 1) {
        const found = (statements.piece.get(piece) as { bytes: Uint8Array<ArrayBuffer> } | undefined)?.bytes
        if (found === undefined || at + found.length > size)
          throw damaged(path, `${what}: its piece ${piece} is not what was written`)
        if (pieces === 1 && found.length === size && found.buffer.byteLength === size) bytes = found
        else (bytes ??= new Uint8Array(size)).set(found, at)
        at += found.length
      }
      bytes ??= new Uint8Array(0)
      if (at !== size || crc32(bytes) !== sum) throw damaged(path, `${what} fails its checksum`)
      return bytes
    },
  }
}

interface Row {
  readonly value: string
  readonly crc: number
}

/** Infinity and NaN are not JSON. */
function storable(value: number): number | string {
  return Number.isFinite(value) ? value : String(value)
}

export function damaged(path: string, found: string, cause?: unknown): MillraceError {
  return new MillraceError(
    'STATE_DAMAGED',
    `state file ${path} is damaged: ${found}. Keep a copy of it and of the files beside it, check the disk, and put back ` +
      'the newest good copy (the file, its -wal and its .witness together); or move them away and start from the ' +
      'beginning of the sources, knowing that sinks may get rows twice',
    { cause },
  )
}

/** What SQLite threw, as an error with a code. */
export function stateError(path: string, thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown
  const primary = primaryCode(thrown)
  const said = messageOf(thrown)
  if (primary === SQLITE.corrupt || primary === SQLITE.notADatabase) return damaged(path, said, thrown)
  if (primary === SQLITE.full) {
    return new MillraceError(
      'DISK_FULL',
      `state file ${path}: the disk is full. Nothing was lost; make room, and the work goes on`,
      {
        cause: thrown,
        retriable: true,
      },
    )
  }
  if (primary === SQLITE.readOnly || primary === SQLITE.cannotOpen) {
    return new MillraceError(
      'DATA_DIR_UNWRITABLE',
      `state file ${path} cannot be written: ${said}. Give this user the right to write the folder and the files in it`,
      { cause: thrown },
    )
  }
  if (primary === SQLITE.io) {
    return new MillraceError(
      'STATE_FAILED',
      `state file ${path}: the disk reports an error (${said}). Check the disk, then start again`,
      {
        cause: thrown,
      },
    )
  }
  return new MillraceError('INTERNAL', `state file ${path}: ${said}`, { cause: thrown })
}

export function primaryCode(thrown: unknown): number {
  const code = (thrown as { errcode?: unknown } | undefined)?.errcode
  return typeof code === 'number' ? code & 0xff : 0
}

/** SQLite's primary result codes that matter here: https://sqlite.org/rescode.html */
export const SQLITE = { readOnly: 8, io: 10, corrupt: 11, full: 13, cannotOpen: 14, notADatabase: 26 } as const
