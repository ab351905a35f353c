import { join } from 'node:path'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import { made } from '../core/made.ts'
import type { Encoder, Outcome, RowMeta, Sink } from '../core/sink.ts'
import { keyValue } from '../embedded/key-value.ts'
import { rolledBack } from '../embedded/thread.ts'

export interface RedisOptions<T> {
  /** The key that a row is kept under. */
  key: (row: T, meta: RowMeta) => string
  /** What is kept: JSON, or for `as: 'hash'` an object of fields. @default the row itself */
  value?: (row: T, meta: RowMeta) => unknown
  /**
   * A larger version wins, whatever comes first; one that is not larger changes nothing. A whole number of 64 bits.
   *
   * @default the order in which rows were made, over all restarts
   */
  version?: (row: T, meta: RowMeta) => number | bigint
  /** Whether the row removes its key. The version of a removal is remembered for 7 days. @default never */
  deleted?: (row: T) => boolean
  /** How long a key stays after the row was made, by the task's clock, or `'forever'`. */
  ttl: Duration | 'forever'
  /** A JSON text (`GET`), or a hash of one text a field (`HGETALL`). @default 'json' */
  as?: 'json' | 'hash'
  /** What messages call the sink. @default 'redis' */
  name?: string
  /** Where the Redis is. @default the environment's REDIS_URL, or else the embedded key-value table */
  url?: string
}

const TOMBSTONE = 7 * 86_400_000
const MAX_VERSION = 2n ** 63n - 1n

/**
 * Keeps the newest row of each key, for so long, where other programs can look it up.
 *
 * Idempotent: every row carries a version and the moment it expires, both fixed when it was made, so that a batch that
 * is sent again, after a crash, or out of order changes nothing that is newer, and lengthens no life. A removal, and
 * for as long again as it lived (at most 7 days) an expired key, leaves its version behind, so that an older row
 * cannot bring the key back. Rows of one key with equal versions: the first one stays.
 *
 * Where no Redis is named, it is the embedded table `cache.db` in the data directory. A real Redis is not in this version:
 * naming one is refused with BAD_OPTION when the pipeline starts.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * events.to(redis({ key: (e) => `last:${e.visitorId}`, value: (e) => e.itemId, version: (e) => e.occurredAt, ttl: '1d' }))
 * ```
 */
export function redis<T>(options: RedisOptions<T>): Sink<T> {
  const { ttl, as = 'json', name = 'redis', url } = options
  const where = `redis ${JSON.stringify(name)}`
  required(where, 'key', options.key)
  for (const option of ['value', 'version', 'deleted'] as const) {
    if (options[option] !== undefined) required(where, option, options[option])
  }
  if (as !== 'json' && as !== 'hash') {
    throw new MillraceError('BAD_OPTION', `${where}: as must be 'json' or 'hash', got ${shown(as)}`)
  }
  const lives = ttl === 'forever' ? undefined : milliseconds(ttl, `${where}: ttl`)

  const sink: Sink<T> = {
    kind: 'redis',
    guarantee: 'idempotent',
    touches: 'state',
    system: 'redis',
    dry: () => encoder(options, where, as, lives),
    async open({ dataDir, env, runtime }) {
      if (url !== undefined || env.REDIS_URL) {
        throw new MillraceError(
          'BAD_OPTION',
          `${where}: ${url === undefined ? 'REDIS_URL' : 'url'} names a real Redis, which this version cannot write to yet: take it away to use the embedded key-value table`,
        )
      }
      const path = join(dataDir, 'cache.db')
      const table = await keyValue({ path, runtime })
      return {
        // Not the path: the table moves with the data directory that the staged batches are in.
        identity: 'redis: embedded cache.db',
        standIn: `embedded key-value table in ${path}`,
        encoder: () => encoder(options, where, as, lives),
        async deliver({ body }, signal): Promise<Outcome> {
          if (signal.aborted) return { kind: 'notSent', reason: `${where}: given up before it was sent` }
          try {
            await table.apply(body)
            return { kind: 'applied' }
          } catch (error) {
            const reason = `${where}: ${messageOf(error)}`
            return rolledBack(error) ? { kind: 'rejected', retry: 'later', reason } : { kind: 'unknown', reason }
          }
        },
        close: () => table.close(),
      }
    },
  }
  return made(sink, options)
}

function encoder<T>(
  options: RedisOptions<T>,
  where: string,
  as: 'json' | 'hash',
  lives: number | undefined,
): Encoder<T> {
  const { key: keyOf, value: read = (row: T) => row, version: versionOf, deleted } = options
  return {
    head: JSON.stringify({ format: 'key-value-1' }),
    row(row, meta) {
      const key = keyOf(row, meta)
      if (typeof key !== 'string' || key === '') throw unfit(`${where}: key must give a text, got ${shown(key)}`)
      const version = exact(versionOf ? versionOf(row, meta) : meta.version(), where)
      const at = meta.now()
      const start = `{"key":${JSON.stringify(key)},"version":${JSON.stringify(version)}`
      if (deleted?.(row)) return `${start},"deleted":true,"forgetAt":${at + TOMBSTONE}}\n`
      const forgetAt = lives === undefined ? 0 : at + lives + Math.min(lives, TOMBSTONE)
      const life = lives === undefined ? '' : `,"expiresAt":${at + lives},"forgetAt":${forgetAt}`
      const value = read(row, meta)
      return as === 'hash'
        ? `${start}${life},"hash":${JSON.stringify(fields(value, where))}}\n`
        : `${start}${life},"value":${json(value, where)}}\n`
    },
  }
}

function exact(version: unknown, where: string): number | string {
  if (Number.isSafeInteger(version)) return version as number
  if (typeof version === 'bigint' && version <= MAX_VERSION && version >= -MAX_VERSION) return version.toString()
  throw unfit(`${where}: version must give a whole number of 64 bits, got ${shown(version)}`)
}

function json(value: unknown, where: string): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (cause) {
    throw unfit(`${where}: value must give JSON (${messageOf(cause).split('\n')[0]})`)
  }
  if (text !== undefined) return text
  throw unfit(`${where}: value must give JSON, got ${shown(value)}: give null, or say deleted`)
}

function fields(value: unknown, where: string): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw unfit(`${where}: value must give an object of fields for a hash, got ${shown(value)}`)
  }
  const texts: Record<string, string> = {}
  for (const [field, content] of Object.entries(value)) {
    if (content === undefined || content === null) continue
    texts[field] = typeof content === 'object' ? json(content, where) : String(content)
  }
  return texts
}

function required(where: string, option: string, given: unknown): void {
  if (typeof given === 'function') return
  throw new MillraceError('BAD_OPTION', `${where}: ${option} must be a function of the row, got ${shown(given)}`)
}

const unfit = (message: string) => new MillraceError('NOT_JSON', message)
