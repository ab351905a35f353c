/** How the state file is laid out, and how every row of it proves that it is what was written. */
import type { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { StoredDeadLetter } from '../core/store.ts'
import {
  type BatchRow,
  type BlobRow,
  batchRow,
  blobRow,
  type Content,
  type Identity,
  letterOf,
  PIECE_BYTES,
  rowSum,
  type Tally,
  type TaskRow,
} from './rows.ts'

/** The version of the layout. A file of a later one is refused. */
export const FORMAT = 1
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
  return JSON.parse(checkedText(path, table, key, row, more)) as T
}

function checkedText(path: string, table: string, key: number | string, row: Row, more?: string | Uint8Array): string {
  const text = String(row.value)
  if (rowSum(table, key, text, more) !== row.crc) throw damaged(path, `row ${key} of ${table} fails its checksum`)
  return text
}

interface Row {
  readonly value: string
  readonly crc: number
}

interface LetterRow extends Row {
  readonly id: number
  readonly bytes: Uint8Array<ArrayBuffer>
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

  function agree(rows: readonly { crc: number }[], [count, sum]: Tally, what: string): void {
    const found = rows.reduce((all, row) => (all ^ row.crc) >>> 0, 0)
    if (rows.length !== count || found !== sum)
      throw damaged(path, `${what}: ${rows.length} rows where ${count} were written`)
  }

  const blobOf = (task: number, id: number, row: Row) =>
    blobRow(id, row.crc, checkedText(path, 'blobs', `${task}/${id}`, row))

  const letter = (row: LetterRow) =>
    letterOf(row.id, checkedText(path, 'dead_letters', row.id, row, row.bytes), row.bytes)

  return {
    progress: () => metaRow<Progress>(db, path, 2),
    tasks(progress) {
      const rows = (statements.tasks.all() as unknown as (Row & { id: number; facts: string | null })[]).map((row) => ({
        ...checkedRow<Omit<TaskRow, 'id' | 'crc' | 'facts'>>(path, 'tasks', row.id, row, row.facts ?? ''),
        id: row.id,
        crc: row.crc,
        facts: row.facts ?? undefined,
      }))
      agree(rows, progress.tasks, 'tasks')
      return rows
    },
    blobs(task) {
      const rows = (statements.blobs.all(task.id) as unknown as (Row & { id: number })[]).map((row) =>
        blobOf(task.id, row.id, row),
      )
      agree(rows, task.blobs, `state of ${task.name}`)
      return rows.sort((a, b) => a.order - b.order)
    },
    blob(task, id) {
      const row = statements.blob.get(task, id) as Row | undefined
      return row && blobOf(task, id, row)
    },
    batches(task) {
      const rows = (statements.batches.all(task.id) as unknown as (Row & { id: number })[]).map((row) =>
        batchRow(row.id, row.crc, checkedText(path, 'batches', `${task.id}/${row.id}`, row)),
      )
      agree(rows, task.batches, `staged batches of ${task.name}`)
      return rows.sort((a, b) => a.order - b.order)
    },
    letters: (after, limit) => (statements.letters.all(after, limit) as unknown as LetterRow[]).map(letter),
    letter: (id) =>
      (statements.letters.all(id - 1, 1) as unknown as LetterRow[]).map(letter).find((found) => found.id === id),
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
