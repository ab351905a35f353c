import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { MillraceError, messageOf } from '../core/errors.ts'

const SQLITE_BUSY = 5

/** What keeps the locks from being collected, and so given back, before their time. */
const held = new Set<DatabaseSync>()

/**
 * Takes the data directory for this process. The lock is the operating system's, held through SQLite on an empty file:
 * it goes with the process, however that ends, and leaves nothing stale.
 *
 * @returns what gives it back
 * @throws MillraceError DATA_DIR_IN_USE with the process that holds it, or DATA_DIR_UNWRITABLE
 */
export function lockDataDir(directory: string): () => void {
  const note = join(directory, 'lock.pid')
  let lock: DatabaseSync | undefined
  try {
    mkdirSync(directory, { recursive: true })
    lock = new DatabaseSync(join(directory, 'lock'))
    lock.exec('BEGIN IMMEDIATE')
    writeFileSync(note, `${process.pid}\n`)
  } catch (thrown) {
    lock?.close()
    if (((thrown as { errcode?: number }).errcode ?? 0) % 256 === SQLITE_BUSY) {
      throw new MillraceError(
        'DATA_DIR_IN_USE',
        `data directory ${directory} is in use by ${holder(note)}. Stop that worker first, or give this one a directory of its own`,
        { cause: thrown },
      )
    }
    throw new MillraceError(
      'DATA_DIR_UNWRITABLE',
      `data directory ${directory} cannot be written: ${messageOf(thrown)}. Give this user the right to write it, or choose another directory`,
      { cause: thrown },
    )
  }
  const own = lock
  held.add(own)
  return () => {
    if (held.delete(own)) own.close()
  }
}

function holder(note: string): string {
  try {
    const pid = readFileSync(note, 'utf8').trim()
    return /^\d+$/.test(pid) ? `process ${pid}` : 'another process'
  } catch {
    return 'another process'
  }
}
