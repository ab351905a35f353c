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

/**
 * How many entries are looked at for what is forgotten, along with a write of so many rows: a walk through all keys, piece
 * by piece, that comes round before the forgotten are a third of the table. An index of times would double a write's cost.
 */
const walkOf = (rows: number) => rows * 4 + 100

serve(({ path }: { path: string }) => {
  const db = new DatabaseSync(path, { timeout: 5_000 })
  db.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 8000',
  )
  const { user_version: format } = db.prepare('PRAGMA user_version').get() as { user_version: number }
  if (format > 1) throw new Error(`${path} was written by a newer version of Millrace`)
  if (format === 0) db.exec(SCHEMA)
  const upsert = db.prepare(UPSERT)
  const place = db.prepare('SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?')
  // Every text sorts before a blob: without an end, the piece goes to the last key.
  const sweep = db.prepare("DELETE FROM entries WHERE key > ?1 AND key <= coalesce(?2, x'') AND forget <= ?3")
  let walked = ''

  /** A line's values, as `UPSERT` takes them. */
  const values = (line: string) => {
    const row = JSON.parse(line)
    const kind = row.hash !== undefined ? 'hash' : row.deleted ? null : 'json'
    const value = kind === null ? null : JSON.stringify(kind === 'hash' ? row.hash : row.value)
    const version = typeof row.version === 'string' ? BigInt(row.version) : row.version
    return [row.key as string, version, kind, value, row.expiresAt ?? null, row.forgetAt ?? null] as const
  }

  return {
    open: () => undefined,
    apply({ bodies, now }: { bodies: readonly Uint8Array[]; now: number }) {
      const rows = bodies.flatMap((body, n) => {
        const lines = Buffer.from(body.buffer, body.byteOffset, body.length).toString().split('\n').filter(Boolean)
        return lines.map((line) => ({ n, values: values(line) }))
      })
      // In the order of keys a write touches half the pages; the sort is stable, so rows of a key stay in theirs.
      rows.sort(({ values: [a] }, { values: [b] }) => (a < b ? -1 : a > b ? 1 : 0))
      const changed = bodies.map(() => 0)
      let next: string | null
      db.exec('BEGIN IMMEDIATE')
      try {
        for (const { n, values } of rows) changed[n]! += upsert.run(...values, now).changes as number
        next = (place.get(walked, walkOf(rows.length) - 1)?.key ?? null) as string | null
        sweep.run(walked, next, now)
        db.exec('COMMIT')
      } catch (error) {
        if (db.isTransaction) db.exec('ROLLBACK')
        throw error
      }
      walked = next ?? ''
      return changed
    },
    close: () => db.close(),
  }
})
