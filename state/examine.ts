import { existsSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { MillraceError } from '../core/errors.ts'
import { damaged, FORMAT, readIdentity, SCHEMA, stateError, stateReader } from './format.ts'
import type { Identity } from './rows.ts'
import { readWitness } from './witness.ts'

/**
 * Looks at a state file before it is opened for writing, on a connection that cannot change it: is it of a version that
 * is known, whole, and as new as its witness says?
 *
 * After a stop that was not in order, all pages are checked.
 *
 * @returns the store's identity; undefined when there is no store yet
 * @throws MillraceError STATE_TOO_NEW, STATE_BEHIND or STATE_DAMAGED
 */
export function examine(path: string, { acceptOlder }: { acceptOlder: boolean }): Identity | undefined {
  const witness = readWitness(`${path}.witness`)
  const behind = (found: string): MillraceError =>
    new MillraceError(
      'STATE_BEHIND',
      `state file ${path} is older than its witness: ${found}, and the witness saw commit ${witness?.commits} of store ` +
        `${witness?.store}. An old copy was put back, or commits were lost with the -wal file beside it. Put the newest ` +
        'copy back (the file and its -wal together); or, knowing that records are read again and sinks may get rows twice, ' +
        'start once with acceptOlder: true (--accept-older-state)',
    )
  const nothing = () => {
    if (witness && !acceptOlder) throw behind('there is no store in it')
    return undefined
  }
  if (!existsSync(path) || statSync(path).size === 0) return nothing()

  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
    db.exec('PRAGMA cell_size_check = ON')
    const tables = db.prepare('SELECT name, sql FROM sqlite_schema').all() as { name: string; sql: string }[]
    if (tables.length === 0) return nothing()
    const schema = new Map(tables.map(({ name, sql }) => [name, sql]))
    if (!schema.has('meta')) throw damaged(path, 'it is a database, but not one of Millrace')

    const identity = checkFormat(db, path)
    for (const [table, sql] of Object.entries(SCHEMA)) {
      if (schema.get(table) !== sql) throw damaged(path, `table ${table} is not as it was made`)
    }
    const reader = stateReader(db, path)
    const progress = reader.progress()
    if (witness && !acceptOlder) {
      if (witness.store !== identity.id) throw behind(`it is of another store, ${identity.id}`)
      if (witness.commits > progress.commits) throw behind(`it ends at commit ${progress.commits}`)
    }
    const closed = witness?.closed && witness.store === identity.id && witness.commits === progress.commits
    if (!closed) quickCheck(db, path)
    reader.tasks(progress)
    reader.loose()
    return identity
  } catch (thrown) {
    const error = stateError(path, thrown)
    throw error.code === 'INTERNAL' ? damaged(path, error.message, thrown) : error
  } finally {
    db?.close()
  }
}

/**
 * The identity of the store, when its version is known.
 *
 * @throws MillraceError STATE_TOO_NEW, or STATE_DAMAGED
 */
export function checkFormat(db: DatabaseSync, path: string): Identity {
  const identity = readIdentity(db, path)
  if (identity.format <= FORMAT) return identity
  throw new MillraceError(
    'STATE_TOO_NEW',
    `state file ${path} is of version ${identity.format}, and this Millrace knows versions up to ${FORMAT}. Start the newer ` +
      'Millrace that wrote it, or put back a copy of before the upgrade',
  )
}

function quickCheck(db: DatabaseSync, path: string): void {
  const found = (db.prepare('PRAGMA quick_check(3)').all() as { quick_check: string }[]).map((row) => row.quick_check)
  if (found[0] !== 'ok') throw damaged(path, found.join('; '))
}
