import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import { thread } from './thread.ts'

export interface KeyValueOptions {
  /** The file; it is made, with its folder, unless `readOnly`. */
  path: string
  /** Its wall clock decides what has expired. */
  runtime: Runtime
  /** Only look, beside a process that writes. @default false */
  readOnly?: boolean
}

/** What is kept under a key: of a hash, an object of texts; of JSON, any value. */
export interface KeyValueEntry {
  readonly key: string
  readonly kind: 'json' | 'hash'
  readonly value: unknown
  readonly version: number | bigint
  /** Epoch milliseconds; absent when it stays for good. */
  readonly expiresAt?: number
}

/** One change, as a line of JSON in what `apply` takes. */
export type KeyValueRow = {
  readonly key: string
  /** As decimal digits when it is no safe integer. */
  readonly version: number | string
  /** When the key is no longer seen, epoch milliseconds. */
  readonly expiresAt?: number
  /** When its version is no longer held against older rows, epoch milliseconds; absent: never. */
  readonly forgetAt?: number
} & ({ readonly value: unknown } | { readonly hash: Readonly<Record<string, string>> } | { readonly deleted: true })

/** A table of values by key, with versions and times to live, in one file. */
export interface KeyValue {
  /**
   * Applies rows, lines of JSON ({@link KeyValueRow}), whole and durably, or not at all. A row changes nothing when the key
   * has a row of the same or a newer version, deleted and expired ones included until they are forgotten: rows may come
   * in any order, and again.
   *
   * @returns how many rows changed something
   */
  apply(body: Uint8Array): Promise<number>
  get(key: string): KeyValueEntry | undefined
  /** Live entries in the order of their keys' bytes, at most `limit` of them (default 1,000), after the key `after`. */
  list(options?: { prefix?: string; after?: string; limit?: number }): readonly KeyValueEntry[]
  /** How many live entries there are. */
  size(prefix?: string): number
  close(): Promise<void>
}

const LIVE = 'kind IS NOT NULL AND (expires IS NULL OR expires > :now)'
const PREFIX = 'key >= :prefix AND substr(key, 1, length(:prefix)) = :prefix'

/**
 * Opens the embedded key-value table: what stands in for Redis. It is written on a thread of its own, every `apply`
 * that waits in one durable transaction, and can be read by other processes meanwhile. What has expired is not seen from
 * that moment on; it is removed in bounded pieces along with later writes.
 *
 * @throws MillraceError NOT_FOUND when it is to be read and is not there; SINK_FAILED when it cannot be opened
 */
export async function keyValue({ path, runtime, readOnly = false }: KeyValueOptions): Promise<KeyValue> {
  const module = new URL(
    import.meta.url.endsWith('.ts') ? './key-value-thread.ts' : './key-value-thread.js',
    import.meta.url,
  )
  if (readOnly && !existsSync(path)) {
    throw new MillraceError('NOT_FOUND', `${path} is not there: no pipeline has written to its key-value table yet`)
  }
  const writer = readOnly ? undefined : thread(module, { path })
  let db: DatabaseSync
  try {
    if (writer) {
      mkdirSync(dirname(path), { recursive: true })
      await writer.call('open')
    }
    db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
  } catch (cause) {
    await writer?.close()
    throw new MillraceError(
      'SINK_FAILED',
      `the key-value table ${path} cannot be opened (${messageOf(cause)}): see that it is a file of Millrace's that this user can write, or move it away`,
      { cause },
    )
  }
  const get = db.prepare(`SELECT * FROM entries WHERE key = :key AND ${LIVE}`)
  const list = db.prepare(
    `SELECT * FROM entries WHERE ${PREFIX} AND key > :after AND ${LIVE} ORDER BY key LIMIT :limit`,
  )
  const size = db.prepare(`SELECT count(*) AS count FROM entries WHERE ${PREFIX} AND ${LIVE}`)
  for (const statement of [get, list]) statement.setReadBigInts(true)

  let waiting: { body: Uint8Array; resolve(changed: number): void; reject(error: unknown): void }[] = []
  let writing: Promise<void> | undefined

  const write = async () => {
    while (waiting.length > 0) {
      const batch = waiting
      waiting = []
      try {
        const bodies = batch.map(({ body }) => body)
        const changed = await writer!.call<number[]>('apply', { bodies, now: runtime.now() })
        for (const [n, { resolve }] of batch.entries()) resolve(changed[n] ?? 0)
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    writing = undefined
  }

  return {
    apply(body) {
      if (!writer) return Promise.reject(new MillraceError('BAD_OPTION', `${path} was opened to be read only`))
      return new Promise((resolve, reject) => {
        waiting.push({ body, resolve, reject })
        writing ??= write()
      })
    },
    get(key) {
      const row = get.get({ key, now: runtime.now() })
      return row && entry(row)
    },
    list({ prefix = '', after = '', limit = 1_000 } = {}) {
      return list.all({ prefix, after, limit, now: runtime.now() }).map(entry)
    },
    size: (prefix = '') => (size.get({ prefix, now: runtime.now() }) as { count: number }).count,
    async close() {
      await writing
      await writer?.close()
      if (db.isOpen) db.close()
    },
  }
}

function entry(row: Record<string, unknown>): KeyValueEntry {
  const version = row.version as bigint
  const exact = Number(version)
  return {
    key: row.key as string,
    kind: row.kind as 'json' | 'hash',
    value: JSON.parse(row.value as string),
    version: Number.isSafeInteger(exact) ? exact : version,
    ...(row.expires === null ? {} : { expiresAt: Number(row.expires) }),
  }
}
