import { DatabaseSync } from 'node:sqlite'
import { serve } from './thread.ts'

/** What the table holds, in the order of its columns; version 1. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    kind TEXT,
    value TEXT,
    expires INTEGER,
    forget INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS entries_forget ON entries (forget) WHERE forget IS NOT NULL;
  PRAGMA user_version = 1;
`

/** A row of which the version is not newer changes nothing, unless the one that is there is only waiting to be swept. */
const UPSERT = `
  INSERT INTO entries (key, version, kind, value, expires, forget) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
  ON CONFLICT (key) DO UPDATE SET
    version = excluded.version, kind = excluded.kind, value = excluded.value,
    expires = excluded.expires, forget = excluded.forget
  WHERE excluded.version > entries.version OR entries.forget <= ?7
`

/** Rows swept with each transaction: a little more than come in, so that the sweep keeps up, and bounded. */
const sweepOf = (rows: number) => rows * 2 + 100

serve(({ path }: { path: string }) => {
  const db = new DatabaseSync(path, { timeout: 5_000 })
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  const { user_version: format } = db.prepare('PRAGMA user_version').get() as { user_version: number }
  if (format > 1) throw new Error(`${path} was written by a newer version of Millrace`)
  if (format === 0) db.exec(SCHEMA)
  const upsert = db.prepare(UPSERT)
  const sweep = db.prepare(
    'DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE forget <= ? ORDER BY forget LIMIT ?)',
  )

  const put = (line: string, now: number): number => {
    const row = JSON.parse(line)
    const kind = row.hash !== undefined ? 'hash' : row.deleted ? null : 'json'
    const value = kind === null ? null : JSON.stringify(kind === 'hash' ? row.hash : row.value)
    const version = typeof row.version === 'string' ? BigInt(row.version) : row.version
    return upsert.run(row.key, version, kind, value, row.expiresAt ?? null, row.forgetAt ?? null, now).changes as number
  }

  return {
    open: () => undefined,
    apply({ bodies, now }: { bodies: readonly Uint8Array[]; now: number }) {
      const changed: number[] = []
      let rows = 0
      db.exec('BEGIN IMMEDIATE')
      try {
        for (const body of bodies) {
          let count = 0
          for (const line of Buffer.from(body.buffer, body.byteOffset, body.length).toString().split('\n')) {
            if (line === '') continue
            count += put(line, now)
            rows++
          }
          changed.push(count)
        }
        sweep.run(now, sweepOf(rows))
        db.exec('COMMIT')
      } catch (error) {
        if (db.isTransaction) db.exec('ROLLBACK')
        throw error
      }
      return changed
    },
    close: () => db.close(),
  }
})
