import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { serve } from '../../embedded/thread.ts'
import { type Listed, listing, type Tally } from './listing.ts'
import { type CapturedMessage, type Message, pathOf } from './message.ts'
import { preview } from './preview.ts'

/** A list of what was captured: it is what knows a message again, and the files are made from it. Version 1. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS messages (
    key TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    sink TEXT NOT NULL,
    event TEXT NOT NULL,
    recipient TEXT NOT NULL,
    time INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    path TEXT NOT NULL,
    message TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS messages_time ON messages (time);
  CREATE INDEX IF NOT EXISTS messages_output ON messages (pipeline, sink, expired);
  PRAGMA user_version = 1;
`

const LISTED = 500

/** A batch of messages, as it is handed to the thread. */
export interface Capture {
  readonly pipeline: string
  readonly sink: string
  readonly body: Uint8Array
  readonly now: number
}

/** What became of a batch. */
export interface Captured {
  /** Messages that were not there before. */
  readonly fresh: number
  /** Where the first message is, of each that came with a send key that another message has. */
  readonly conflicts: readonly { readonly key: string; readonly kept: string }[]
}

serve(({ folder }: { folder: string }) => {
  mkdirSync(folder, { recursive: true })
  const db = new DatabaseSync(join(folder, 'outbox.db'), { timeout: 5_000 })
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  const { user_version: format } = db.prepare('PRAGMA user_version').get() as { user_version: number }
  if (format > 1) throw new Error('outbox.db was written by a newer version of Millrace')
  if (format === 0) db.exec(SCHEMA)
  const insert = db.prepare('INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING')
  const find = db.prepare('SELECT path, message FROM messages WHERE key = ?')
  const newest = db.prepare(
    `SELECT event, recipient, time, pipeline, sink, expired, path FROM messages ORDER BY time DESC, rowid DESC LIMIT ${LISTED}`,
  )
  const tallies = db.prepare(
    'SELECT pipeline, sink, count(*) AS messages, sum(expired) AS expired FROM messages GROUP BY pipeline, sink ORDER BY pipeline, sink',
  )
  const transaction = <R>(run: () => R): R => {
    db.exec('BEGIN IMMEDIATE')
    try {
      const result = run()
      db.exec('COMMIT')
      return result
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }
  const made = new Set<string>()
  const write = (path: string, text: string) => {
    const file = join(folder, path)
    const parent = dirname(file)
    // One folder a day and output: remembered, as long as there are not too many.
    if (made.size > 1_000) made.clear()
    if (!made.has(parent)) mkdirSync(parent, { recursive: true })
    made.add(parent)
    writeFileSync(`${file}.part`, text)
    renameSync(`${file}.part`, file)
  }

  return {
    open: () => undefined,
    capture({ pipeline, sink, body, now }: Capture): Captured {
      const text = Buffer.from(body.buffer, body.byteOffset, body.length).toString()
      const messages = text
        .split('\n')
        .filter(Boolean)
        .map((line): CapturedMessage => {
          const message = JSON.parse(line) as Message
          const { properties, ...rest } = message
          return { ...rest, pipeline, sink, capturedAt: now, expired: now > message.expiresAt, properties }
        })
      const conflicts: { key: string; kept: string }[] = []
      const files: { path: string; message: CapturedMessage; fresh: boolean }[] = []
      transaction(() => {
        for (const message of messages) {
          const { key, event, recipient, time, expired } = message
          const path = pathOf(message)
          const row = [
            key,
            pipeline,
            sink,
            event,
            recipient,
            time,
            Number(expired),
            path,
            JSON.stringify(message),
          ] as const
          if (insert.run(...row).changes === 1) {
            files.push({ path, message, fresh: true })
            continue
          }
          const stored = find.get(key) as { path: string; message: string }
          const first = JSON.parse(stored.message) as CapturedMessage
          if (contentOf(first) !== contentOf(message)) conflicts.push({ key, kept: `${stored.path}.json` })
          else files.push({ path: stored.path, message: first, fresh: false })
        }
      })
      for (const { path, message, fresh } of files) {
        // A repeat may be the batch of which a crash came between the list and the files.
        if (fresh || !existsSync(join(folder, `${path}.html`))) write(`${path}.html`, preview(message))
        if (fresh || !existsSync(join(folder, `${path}.json`)))
          write(`${path}.json`, `${JSON.stringify(message, null, 2)}\n`)
      }
      return { fresh: files.filter(({ fresh }) => fresh).length, conflicts }
    },
    /** Makes the listing anew, while nobody else can: what it shows is never older than what it replaces. */
    list: () =>
      transaction(() => {
        const rows = newest.all() as unknown as (Omit<Listed, 'expired'> & { expired: number })[]
        write(
          'index.html',
          listing(
            rows.map((row) => ({ ...row, expired: row.expired === 1 })),
            tallies.all() as unknown as Tally[],
          ),
        )
      }),
    close: () => db.close(),
  }
})

/** What makes two messages with one send key the same: when they were caused does not. */
function contentOf({ event, recipient, properties }: Message): string {
  return JSON.stringify([event, recipient, properties])
}
