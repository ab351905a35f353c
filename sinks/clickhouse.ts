import { join } from 'node:path'
import type { ClickHouseClient } from '@clickhouse/client'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import { made } from '../core/made.ts'
import { deadline } from '../core/runtime.ts'
import type { Delivery, Encoder, OpenSink, Outcome, Sink } from '../core/sink.ts'
import type { ConnectorContext } from '../core/source.ts'
import { openWarehouse } from '../embedded/warehouse.ts'
import {
  type ClickHouseAddress,
  type ClickHouseTls,
  clickHouseAddress,
  connectClickHouse,
  quoted,
} from './clickhouse-client.ts'
import { type Compression, deliverInsert, type InsertHead } from './clickhouse-delivery.ts'
import { failureOf } from './clickhouse-errors.ts'
import { inserter } from './clickhouse-insert.ts'
import { LARGEST_INSERT, openTable, type Table, type TableColumn, type WantedTable } from './clickhouse-table.ts'
import { type Columns, shaper, takesNull } from './clickhouse-types.ts'

/** An object, and not a promise, which would be written as `{}`. */
export type Row = object & { readonly then?: never }

export interface ClickHouseOptions<R> {
  /** The table, which is made when it is not there. */
  table: string
  /** Its column types; needed to make the table when the row is no longer the source's schema. */
  columns?: Columns<R>
  /** The columns by which the table is sorted. @default none */
  orderBy?: readonly (keyof R & string)[]
  /**
   * A ReplacingMergeTree: of the rows of one `orderBy`, the one with the largest `version` stays, and none when its
   * `deleted` is true. Read with `FINAL`.
   */
  replace?: { version: keyof R & string; deleted?: keyof R & string }
  /**
   * The cluster on all of whose servers the table is made and changed (`ON CLUSTER`). @default the server alone
   */
  cluster?: string
  /**
   * Makes it a ReplicatedMergeTree: at the path that is given, in which macros such as `{shard}` stand for what the
   * server says, or at the server's `default_replica_path`. @default true with `cluster`, else false
   */
  replicated?: boolean | { path: string; replica?: string }
  /**
   * Gives the table, at the start, a new column that takes null for each field of the schema or of `columns` that it has
   * none for. @default false
   */
  evolve?: boolean
  /**
   * Lets the server gather the small inserts of many workers; it answers when they are written. Their rows cannot be
   * counted then: the guarantee is `windowed`. @default false
   */
  asyncInsert?: boolean
  /** The server, such as `'https://host:8443'`. @default CLICKHOUSE_URL, else the embedded warehouse */
  url?: string
  /** Files that prove who the server is, and who we are. Names and passwords come with the address. */
  tls?: ClickHouseTls
  /** Sent with every request, for what stands before the server. @default none */
  headers?: Readonly<Record<string, string>>
  /** How the bytes of larger requests travel. @default 'zstd' to another machine, 'none' to this one */
  compression?: Compression
  /** How long one attempt may take until its outcome counts as unknown, at most `'60s'`. @default '60s' */
  timeout?: Duration
  /** The database that the table is in. @default CLICKHOUSE_DATABASE, else the one of the address, else `default` */
  database?: string
  /** What messages and metrics call it. @default the table */
  name?: string
}

/** Not more than one insert in this many milliseconds: small inserts make parts faster than a table can merge them. */
const PACE = 20
/** Several small batches that wait become one insert, up to here. */
const GROUP = { rows: 100_000, bytes: 16 * 1_048_576 } as const
const LONGEST = '60s'
const IDENTIFIER = /^[A-Za-z_]\w*$/
const OWN = ['_batch', '_seq']
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const

/**
 * Inserts each value as a row of a ClickHouse table, exactly once: a batch is one insert and one block under a name of
 * its own, which the table recognizes when it comes again; after an outcome that is not known the rows are counted by
 * that name, and what is missing is sent. Each row says its batch and its place there, in the columns `_batch` and
 * `_seq`, which `SELECT *` does not show.
 *
 * The guarantee is `idempotent`, and `windowed` on tables whose rows cannot be counted (a TTL, engines that merge rows
 * away, `Null`, `Distributed`, no `_batch`); the start says which and why. A field that the table has no column for,
 * and a value that its column does not hold, make the row a dead letter, as do rows that the server refuses; the good
 * rows of the same batch are kept. undefined is null; neither is taken by a column that is not Nullable and has no
 * default. Numbers in time columns are epoch milliseconds.
 *
 * The address comes from `CLICKHOUSE_URL` (`https://host:8443/database`), who asks from `CLICKHOUSE_USER` and
 * `CLICKHOUSE_PASSWORD`, or from the address; neither stands in a message. `CLICKHOUSE_CA_FILE` names who vouches for
 * the server, `CLICKHOUSE_CERT_FILE` and `CLICKHOUSE_KEY_FILE` who we are. What a server or a cluster must be set to is
 * on its own page, docs/clickhouse.md.
 *
 * Without an address it uses the embedded warehouse, the ClickHouse engine in a process of its own. What it has
 * answered for survives the death of any process; the death of the machine only as far as its disk cache was written.
 *
 * @throws MillraceError BAD_OPTION for a table or column that is no plain name, or `replace` without `orderBy`
 *
 * @example
 * ```ts
 * events.to(clickhouse({ table: 'events', orderBy: ['visitorId', 'occurredAt'] }))
 * ```
 */
export function clickhouse<T extends Row>(options: ClickHouseOptions<NoInfer<T>>): Sink<T> {
  check(options)
  const sink: Sink<T> = {
    kind: 'clickhouse',
    guarantee: 'idempotent',
    touches: 'state',
    system: 'clickhouse',
    open: (context) => open<T>(options, context),
  }
  return made(sink, options)
}

function check<T extends Row>(options: ClickHouseOptions<T>): void {
  const { table, columns, orderBy, replace, url, database, name } = options
  const where = `clickhouse "${name ?? table}"`
  const wrong = (problem: string) => new MillraceError('BAD_OPTION', `${where}: ${problem}`)
  if (!IDENTIFIER.test(table)) throw wrong(`table must be a plain name such as 'events', got '${table}'`)
  if (database !== undefined && !IDENTIFIER.test(database))
    throw wrong(`database must be a plain name, got '${database}'`)
  if (url !== undefined) clickHouseAddress({ url, tls: options.tls, env: {} })
  const { compression = 'none', timeout = LONGEST, cluster, replicated, asyncInsert } = options
  if (!['zstd', 'gzip', 'none'].includes(compression))
    throw wrong(`compression must be 'zstd', 'gzip' or 'none', got ${shown(compression)}`)
  if (milliseconds(timeout, `${where}: timeout`) > milliseconds(LONGEST, where))
    throw wrong(`timeout must be at most ${LONGEST}, got '${timeout}'`)
  if (cluster !== undefined && !/^[\w{}.-]+$/.test(cluster))
    throw wrong(`cluster must be a plain name, got '${cluster}'`)
  if (typeof replicated === 'object' && !replicated.path?.startsWith('/'))
    throw wrong(
      `replicated.path must be a path such as '/clickhouse/tables/{shard}/${table}', got ${shown(replicated.path)}`,
    )
  if (asyncInsert && replace)
    throw wrong('asyncInsert and replace do not go together: of two versions either may be the last')
  const names = columns ? Object.keys(columns) : undefined
  if (names?.length === 0) throw wrong('columns must name at least one column')
  for (const each of names ?? []) {
    if (!IDENTIFIER.test(each)) throw wrong(`a column must be a plain name, got '${each}'`)
    if (OWN.includes(each)) throw wrong(`the column ${each} is the sink's own`)
    if (typeof columns![each as keyof T] !== 'string')
      throw wrong(`the type of column ${each} must be text such as 'String'`)
  }
  if (typeof orderBy === 'string') throw wrong(`orderBy must be a list of columns, got '${orderBy}'`)
  if (replace && !orderBy?.length) throw wrong('replace needs orderBy: the columns that tell rows of one thing')
  for (const each of [...(orderBy ?? []), ...(replace ? [replace.version, replace.deleted ?? replace.version] : [])])
    if (names && !names.includes(each)) throw wrong(`columns has no ${each} to order or replace by`)
  for (const each of orderBy ?? [])
    if (columns && takesNull(columns[each])) throw wrong(`orderBy cannot have ${each}, which is Nullable`)
}

async function open<T extends Row>(options: ClickHouseOptions<T>, context: ConnectorContext): Promise<OpenSink<T>> {
  const { table: name, columns, orderBy, replace, url, tls, headers, timeout = LONGEST } = options
  const { cluster, replicated, evolve, asyncInsert } = options
  const { env, dataDir, runtime, logger, metrics, rowSchema, share } = context
  const real = clickHouseAddress({ url, database: options.database, tls, headers, env })
  const warehouse = real ? undefined : await openWarehouse({ dataDir, runtime, logger })
  const address: ClickHouseAddress = real ?? {
    url: warehouse!.url,
    socketPath: warehouse!.socketPath,
    database: options.database ?? 'default',
  }
  const client = connectClickHouse(address)
  const inserts = inserter(address)
  let closed = false
  async function close(): Promise<void> {
    if (closed) return
    closed = true
    inserts.close()
    await client.close()
    await warehouse?.close()
  }
  const { database } = address
  const wanted = {
    database,
    table: name,
    columns,
    orderBy,
    replace,
    rowSchema,
    cluster,
    replicated,
    evolve,
    asyncInsert,
  }
  const table = await ready(address, client, wanted).catch(async (cause: unknown) => {
    await close()
    if (cause instanceof MillraceError) throw cause
    const { kind, reason } = failureOf(cause)
    const said = kind === 'notSent' ? `${real?.url ?? 'the embedded warehouse'} was ${reason}` : messageOf(cause)
    throw new MillraceError('SINK_FAILED', `clickhouse "${options.name ?? name}": ${said}`, { cause, retriable: true })
  })
  for (const remark of table.remarks)
    logger.warn({ table: name }, `a repeated batch is only recognized for ${table.window / 2_000} s: ${remark}`)
  for (const each of table.advice) logger.warn({ table: name }, each)

  const label = { table: options.name ?? name }
  const requests = metrics.counter('millrace_clickhouse_inserts_total', 'Batches sent, by how it ended.', [
    'table',
    'outcome',
  ])
  const rows = metrics.counter('millrace_clickhouse_rows_total', 'Rows that were applied.', ['table'])(label)
  const sentBytes = metrics.counter('millrace_clickhouse_bytes_total', 'Bytes of batches sent.', ['table'])(label)
  const seconds = metrics.histogram('millrace_clickhouse_insert_seconds', 'Time to an outcome.', SECONDS, ['table'])(
    label,
  )

  const attemptMs = milliseconds(timeout, `clickhouse "${options.name ?? name}": timeout`)
  const compression = options.compression ?? (real && !isHere(real.url) ? 'zstd' : 'none')
  const identity = warehouse ? `embedded:clickhouse/${database}.${name}` : `${address.url}/${database}.${name}`
  const pace = share(`clickhouse pace of ${identity}`, () => ({ next: 0 }))

  /** Outputs of the worker that write to one table take turns: it is the table that small inserts wear out. */
  async function turn(signal: AbortSignal): Promise<void> {
    const now = runtime.elapsed()
    const mine = Math.max(now, pace.next)
    pace.next = mine + PACE
    if (mine > now) await runtime.sleep(mine - now, signal)
  }

  async function deliver(delivery: Delivery, signal: AbortSignal): Promise<Outcome> {
    if (signal.aborted) return { kind: 'notSent', reason: 'it was called off' }
    const up = await reachable(warehouse, signal)
    if (up !== undefined) return { kind: 'notSent', reason: up }
    await turn(signal)
    const started = runtime.elapsed()
    const limit = deadline(runtime, attemptMs, signal)
    const to = { client, inserter: inserts, database, table, runtime, logger, compression }
    let outcome = await deliverInsert(to, delivery, limit.signal).finally(limit.clear)
    if (outcome.kind === 'unknown' && limit.signal.aborted && !signal.aborted)
      outcome = { kind: 'unknown', reason: messageOf(limit.signal.reason) }
    seconds.observe((runtime.elapsed() - started) / 1_000)
    requests({ ...label, outcome: outcome.kind }).add(1)
    sentBytes.add(delivery.body.byteLength)
    if (outcome.kind === 'applied') rows.add(delivery.rows)
    return outcome
  }

  return {
    identity,
    ...(warehouse ? { standIn: `the embedded ClickHouse in ${join(dataDir, 'warehouse')}` } : {}),
    ...(table.guarantee === 'idempotent' ? {} : { guarantee: table.guarantee }),
    limit: LARGEST_INSERT,
    group: GROUP,
    pace: PACE,
    encoder: () => rowEncoder<T>(name, options.name ?? name, table.columns),
    deliver,
    close,
  }
}

/** Whether an address is this machine's own, to which bytes cost nothing. */
function isHere(url: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname)
}

/** The embedded warehouse has nobody else who would make its databases. */
async function ready(address: ClickHouseAddress, client: ClickHouseClient, wanted: WantedTable): Promise<Table> {
  if (address.socketPath !== undefined && address.database !== 'default') {
    const owner = connectClickHouse({ ...address, database: 'default' })
    try {
      await owner.command({ query: `CREATE DATABASE IF NOT EXISTS ${quoted(address.database)}` })
    } finally {
      await owner.close()
    }
  }
  return openTable(client, wanted)
}

/** Why the embedded warehouse cannot be reached, if it cannot. */
async function reachable(
  warehouse: { ready(): Promise<void> } | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!warehouse) return undefined
  const off = Promise.withResolvers<string>()
  const abort = () => off.resolve('it was called off')
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([warehouse.ready().then(() => undefined, messageOf), off.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** Rows as arrays in the order of the columns: two thirds of the bytes of objects, and less work for both sides. */
function rowEncoder<T extends Row>(table: string, name: string, columns: readonly TableColumn[]): Encoder<T> {
  const head: InsertHead = { table, columns: columns.map((column) => column.name), format: 'JSONCompactEachRow' }
  const fields = columns.map((column) => ({
    ...column,
    shape: column.defaults ? orDefault(shaper(column.type)) : shaper(column.type),
  }))
  const known = new Set(head.columns)
  const values: unknown[] = new Array(fields.length)
  return {
    head: JSON.stringify(head),
    row(value) {
      const row = value as Readonly<Record<string, unknown>>
      let present = 0
      for (let n = 0; n < fields.length; n++) {
        const field = fields[n]!
        const given = row[field.name]
        if (given !== undefined) present += 1
        try {
          values[n] = field.shape(given)
        } catch (error) {
          throw unfit(name, `column ${field.name} (${field.type}) takes ${messageOf(error)}, got ${kindOf(given)}`)
        }
      }
      let own = 0
      for (const _ in row) own += 1
      if (own !== present) refuseExtra(row, known, name)
      return `${JSON.stringify(values)}\n`
    },
  }
}

function orDefault(shape: (value: unknown) => unknown): (value: unknown) => unknown {
  return (value) => (value === null || value === undefined ? null : shape(value))
}

function refuseExtra(row: Readonly<Record<string, unknown>>, known: ReadonlySet<string>, name: string): void {
  for (const field in row)
    if (row[field] !== undefined && !known.has(field))
      throw unfit(name, `the table has no column for the field ${field}: add one, or shape the row with map`)
}

function unfit(name: string, problem: string): MillraceError {
  return new MillraceError('SINK_REJECTED', `clickhouse "${name}": ${problem}`)
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (value instanceof Date) return 'a Date'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
