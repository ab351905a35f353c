import { join } from 'node:path'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import { made } from '../core/made.ts'
import type { Encoder, OpenSink, Outcome, RowMeta, Sink } from '../core/sink.ts'
import type { ConnectorContext } from '../core/source.ts'
import { keyValue } from '../embedded/key-value.ts'
import { rolledBack } from '../embedded/thread.ts'
import { redisAddress } from '../redis/address.ts'
import { redisConnection } from '../redis/connection.ts'
import { deliverRows } from './redis-delivery.ts'
import { type RedisForm, type RedisHead, rowsForTable, rowsOf } from './redis-rows.ts'

export interface RedisOptions<T> {
  /** The key that a row is kept under; of `'publish'`, the channel. */
  key: (row: T, meta: RowMeta) => string
  /** What is kept: JSON; for `'string'` a text; for `'hash'` and `'stream'` an object of fields. @default the row itself */
  value?: (row: T, meta: RowMeta) => unknown
  /**
   * A larger version wins, whatever comes first; one that is not larger changes nothing. A whole number of 64 bits. Streams
   * and channels have none: they go by the order in which rows were made.
   *
   * @default the order in which rows were made, over all restarts
   */
  version?: (row: T, meta: RowMeta) => number | bigint
  /** Whether the row removes its key, or its member. The version of a removal is remembered for 7 days. @default never */
  deleted?: (row: T) => boolean
  /**
   * How long a key stays after the row was made, by the task's clock, or `'forever'`. A sorted set or stream stays for so long
   * after its last row; a message that could not be published within it is not.
   */
  ttl: Duration | 'forever'
  /**
   * A JSON text or a plain one (`GET`), a hash of one text a field (`HGETALL`), a member of a sorted set (`ZRANGE`), an
   * entry of a stream (`XRANGE`), or a message in JSON to a channel (`SUBSCRIBE`).
   *
   * @default 'json'
   */
  as?: 'json' | 'string' | 'hash' | 'sorted-set' | 'stream' | 'publish'
  /** Of a sorted set: the member that the row is about. */
  member?: (row: T, meta: RowMeta) => string
  /** Of a sorted set: the member's score. */
  score?: (row: T, meta: RowMeta) => number
  /** Of a stream: the length that it is cut to, about. @default never */
  maxLength?: number
  /** What messages call the sink. @default 'redis' */
  name?: string
  /**
   * Where the Redis is: `redis://` or, with TLS, `rediss://`; several servers of a cluster with commas between them; or
   * `redis+sentinel://a:26379,b:26379/NAME`. `REDIS_USER`, `REDIS_PASSWORD`, `REDIS_CA`, `REDIS_CERT` and `REDIS_KEY` stand for what it does not say.
   *
   * @default the environment's REDIS_URL, or else the embedded key-value table
   */
  url?: string
}

const TOMBSTONE = 7 * 86_400_000
const MAX_VERSION = 2n ** 63n - 1n
const FORMS: readonly RedisForm[] = ['json', 'string', 'hash', 'sorted-set', 'stream', 'publish']
/** An answer that takes longer is of unknown outcome, milliseconds. */
const ANSWER_WITHIN = 20_000

/**
 * Keeps the newest row of each key, for so long, where other programs can look it up; or the score of each member, or appends
 * rows to streams, or publishes them.
 *
 * Idempotent: every row carries a version and the moment it expires, both fixed when it was made, so that a batch that
 * is sent again, after a crash, or out of order changes nothing that is newer, and lengthens no life. A removal, and
 * for as long again as it lived (at most 7 days) an expired key, leaves its version behind, so that an older row
 * cannot bring the key back. Rows of one key with equal versions: the first one stays. Streams and channels remember the
 * last row of each task, and append or publish it once; who is not subscribed at that moment misses a message, as always.
 *
 * Versions are kept beside the keys, under `millrace:version:…` and `millrace:versions:…`, in the same slot of a cluster. A key in which another
 * program keeps a value of another kind is left alone, and the row set aside.
 *
 * Where no Redis is named, it is the embedded table `cache.db` in the data directory; members, entries and messages are rows of
 * their own there.
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
  checkOptions(options, where, as)
  const lives = ttl === 'forever' ? undefined : milliseconds(ttl, `${where}: ttl`)

  const sink: Sink<T> = {
    kind: 'redis',
    guarantee: 'idempotent',
    touches: 'state',
    system: 'redis',
    dry: ({ pipeline, output }) => encoder(options, { where, as, lives, producer: `${pipeline}/${output}` }),
    async open(context) {
      const { output = name, env } = context
      const make = (task: string) => encoder(options, { where, as, lives, producer: `${task}/${output}` })
      const given = url ?? env.REDIS_URL
      if (given) return real(context, where, given, url === undefined ? 'REDIS_URL' : `${where}: url`, make)
      return embedded(context, where, make)
    },
  }
  return made(sink, options)
}

function real<T>(
  { env }: ConnectorContext,
  where: string,
  given: string,
  what: string,
  make: (task: string) => Encoder<T>,
): OpenSink<T> {
  const address = redisAddress(given, what, env)
  const connection = redisConnection(address, { timeout: ANSWER_WITHIN })
  return {
    identity: address.shown,
    limit: { rows: 10_000, bytes: 16 * 1_048_576 },
    encoder: make,
    async deliver(delivery, signal): Promise<Outcome> {
      if (signal.aborted) return { kind: 'notSent', reason: `${where}: given up before it was sent` }
      const head = headOf(delivery.head)
      const outcome = await deliverRows(connection, rowsOf(delivery.body, head.as), head, delivery, signal)
      return outcome.kind === 'applied' ? outcome : { ...outcome, reason: `${where}: ${outcome.reason}` }
    },
    close: async () => connection.close(),
  }
}

async function embedded<T>(
  { dataDir, runtime }: ConnectorContext,
  where: string,
  make: (task: string) => Encoder<T>,
): Promise<OpenSink<T>> {
  const path = join(dataDir, 'cache.db')
  const table = await keyValue({ path, runtime })
  return {
    // Not the path: the table moves with the data directory that the staged batches are in.
    identity: 'redis: embedded cache.db',
    standIn: `embedded key-value table in ${path}`,
    encoder: make,
    async deliver({ head, body }, signal): Promise<Outcome> {
      if (signal.aborted) return { kind: 'notSent', reason: `${where}: given up before it was sent` }
      try {
        await table.apply(rowsForTable(body, headOf(head).as))
        return { kind: 'applied' }
      } catch (error) {
        const reason = `${where}: ${messageOf(error)}`
        return rolledBack(error) ? { kind: 'rejected', retry: 'later', reason } : { kind: 'unknown', reason }
      }
    },
    close: () => table.close(),
  }
}

function headOf(text: string): RedisHead {
  const head = JSON.parse(text) as Partial<RedisHead>
  return { format: 'key-value-1', as: 'json', ...head }
}

/** @throws MillraceError BAD_OPTION */
function checkOptions<T>(options: RedisOptions<T>, where: string, as: unknown): void {
  const bad = (said: string) => new MillraceError('BAD_OPTION', `${where}: ${said}`)
  required(where, 'key', options.key)
  for (const option of ['value', 'version', 'deleted', 'member', 'score'] as const) {
    if (options[option] !== undefined) required(where, option, options[option])
  }
  if (!FORMS.includes(as as RedisForm))
    throw bad(`as must be ${FORMS.map((form) => `'${form}'`).join(', ')}, got ${shown(as)}`)
  for (const option of ['member', 'score'] as const) {
    if (as === 'sorted-set') required(where, option, options[option])
    else if (options[option] !== undefined) throw bad(`${option} is for as: 'sorted-set', and this is '${as}'`)
  }
  for (const option of ['version', 'deleted'] as const) {
    if ((as === 'stream' || as === 'publish') && options[option] !== undefined)
      throw bad(`${option} is not for as: '${as}', where rows stay as they were made`)
  }
  const { maxLength } = options
  if (maxLength === undefined) return
  if (as !== 'stream') throw bad(`maxLength is for as: 'stream', and this is '${as}'`)
  if (!Number.isSafeInteger(maxLength) || maxLength < 1)
    throw bad(`maxLength must be a positive whole number, got ${shown(maxLength)}`)
}

interface EncoderOptions {
  readonly where: string
  readonly as: RedisForm
  readonly lives: number | undefined
  readonly producer: string
}

function encoder<T>(options: RedisOptions<T>, { where, as, lives, producer }: EncoderOptions): Encoder<T> {
  const { key: keyOf, value: read = (row: T) => row, version: versionOf, deleted, member, score, maxLength } = options
  const head: RedisHead = {
    format: 'key-value-1',
    as,
    ...(as === 'stream' || as === 'publish' ? { producer } : {}),
    ...(maxLength === undefined ? {} : { maxLength }),
  }

  /** What the row says beside key, version and life. */
  function content(row: T, meta: RowMeta): string {
    if (as === 'sorted-set') return `"score":${finite(score!(row, meta), where)}`
    const value = read(row, meta)
    if (as === 'hash' || as === 'stream') return `"hash":${JSON.stringify(fields(value, where, as))}`
    return `"value":${as === 'string' ? JSON.stringify(plain(value, where)) : json(value, where)}`
  }

  return {
    head: JSON.stringify(head),
    row(row, meta) {
      const key = text(keyOf(row, meta), 'key', where)
      const version = exact(versionOf ? versionOf(row, meta) : meta.version(), where)
      const at = meta.now()
      const of = member ? `,"member":${JSON.stringify(text(member(row, meta), 'member', where))}` : ''
      const start = `{"key":${JSON.stringify(key)},"version":${JSON.stringify(version)}${of}`
      if (deleted?.(row)) return `${start},"deleted":true,"forgetAt":${at + TOMBSTONE}}\n`
      const forgetAt = lives === undefined ? 0 : at + lives + Math.min(lives, TOMBSTONE)
      const life = lives === undefined ? '' : `,"expiresAt":${at + lives},"forgetAt":${forgetAt}`
      return `${start}${life},${content(row, meta)}}\n`
    },
  }
}

function text(given: unknown, option: string, where: string): string {
  if (typeof given === 'string' && given !== '') return given
  throw unfit(`${where}: ${option} must give a text, got ${shown(given)}`)
}

function finite(score: unknown, where: string): number {
  if (typeof score === 'number' && Number.isFinite(score)) return score
  throw unfit(`${where}: score must give a finite number, got ${shown(score)}`)
}

function plain(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value)
  throw unfit(`${where}: value must give a text for a string, got ${shown(value)}`)
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

function fields(value: unknown, where: string, as: 'hash' | 'stream'): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw unfit(`${where}: value must give an object of fields for a ${as}, got ${shown(value)}`)
  }
  const texts: Record<string, string> = {}
  for (const [field, content] of Object.entries(value)) {
    if (content === undefined || content === null) continue
    texts[field] = typeof content === 'object' ? json(content, where) : String(content)
  }
  if (as === 'stream' && Object.keys(texts).length === 0)
    throw unfit(`${where}: value must give at least one field for a stream`)
  return texts
}

function required(where: string, option: string, given: unknown): void {
  if (typeof given === 'function') return
  throw new MillraceError('BAD_OPTION', `${where}: ${option} must be a function of the row, got ${shown(given)}`)
}

const unfit = (message: string) => new MillraceError('NOT_JSON', message)
