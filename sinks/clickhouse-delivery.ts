import { promisify } from 'node:util'
import { constants, gzip, zstdCompress } from 'node:zlib'
import type { ClickHouseClient } from '@clickhouse/client'
import type { Logger } from '../core/logger.ts'
import type { Runtime } from '../core/runtime.ts'
import type { Delivery, Outcome, RowRejection } from '../core/sink.ts'
import { literal, quoted } from './clickhouse-client.ts'
import { type Failure, failureOf, VIOLATED_CONSTRAINT } from './clickhouse-errors.ts'
import type { Inserter } from './clickhouse-insert.ts'
import { EXPLICIT, LARGEST_INSERT, type Table } from './clickhouse-table.ts'

const zstd = promisify(zstdCompress)
const deflate = promisify(gzip)

/** What a staged batch says of its request: all but address and credentials. */
export interface InsertHead {
  readonly table: string
  readonly columns: readonly string[]
  readonly format: 'JSONCompactEachRow'
}

/** How the bytes of a request travel. */
export type Compression = 'zstd' | 'gzip' | 'none'

export interface DeliveryOptions {
  readonly compression: Compression
  readonly client: ClickHouseClient
  readonly inserter: Inserter
  readonly database: string
  readonly table: Table
  readonly runtime: Runtime
  readonly logger: Logger
}

interface Presence {
  readonly rows: number
  readonly distinct: number
  readonly server: string
}

type Result<V> = { readonly kind: 'done'; readonly value: V } | Failure

/** Rows that are tried at once while those that the server refuses are looked for. */
const TRIED_AT_ONCE = 1_000
/** No more refused rows are looked for in one attempt; those after them are found in the next. */
const REFUSED_AT_ONCE = 1_000
/** Of so many refused rows it is asked what is wrong with each. */
const EXPLAINED = 50
const REPAIRS = 4
/** A batch that may not be sent again waits for a person, milliseconds. */
const PARKED = 60_000
const NEWLINE = 10
/** Smaller requests travel as they are, bytes. */
const SMALL = 4_096

/** In one piece, on a thread of its own, at the fastest level. */
const PACKERS: Readonly<Record<Exclude<Compression, 'none'>, (body: Uint8Array) => Promise<Uint8Array>>> = {
  zstd: (body) => zstd(body, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }),
  gzip: (body) => deflate(body, { level: 1 }),
}

/**
 * Delivers one batch as one insert, which is one block: all of it is applied, or nothing (engine rules 20 to 23).
 *
 * A batch whose earlier attempt may have been applied is counted first, sent again under its own name, which the table
 * recognizes, and counted again: a server that was killed in the middle may remember the name and have lost the rows.
 * What is missing then is sent with the batch's name and the rows' numbers written out, under a suffix of the name. Where
 * the table may not recognize the name any more, only what is missing is sent, or nothing at all.
 */
export async function deliverInsert(
  options: DeliveryOptions,
  delivery: Delivery,
  signal: AbortSignal,
): Promise<Outcome> {
  const { database, table, runtime } = options
  const head = JSON.parse(delivery.head) as InsertHead
  const target = `${quoted(database)}.${quoted(head.table)}`
  const into = `INSERT INTO ${target} (${head.columns.map(quoted).join(', ')}) FORMAT ${head.format}`
  const count = delivery.afterUnknown && table.counted
  const forgotten = delivery.afterUnknown && !table.replaces && runtime.now() - delivery.stagedAt > table.window / 2

  if (forgotten && (!count || table.views))
    return parked(
      'it may have been applied, the table may not recognize it any more, and what is there cannot be counted',
    )
  if (count) {
    if (forgotten && table.atomic) {
      const caughtUp = await attempt(() => catchUp(options, target, signal))
      if (caughtUp.kind !== 'done')
        return parked(
          `it may have been applied on another replica, the table may not recognize it any more, and this replica cannot be told to catch up (SYSTEM SYNC REPLICA: ${caughtUp.reason})`,
        )
    }
    const present = await countBatch(options, target, delivery.name, signal)
    if (present.kind !== 'done') return outcomeOf(present)
    // Rows that are there need not have reached what views write to: only the same name brings them there once.
    if (present.value.distinct >= delivery.rows && !table.views) return whole(options, delivery, present.value)
    if (forgotten && present.value.distinct > 0)
      return repair(options, head, target, delivery, present.value.server, signal)
  }

  const again = delivery.afterUnknown && table.replaces
  const token = again ? `${delivery.name}~${delivery.attempt}` : delivery.name
  const sent = await insert(options, into, delivery.body, { token, comment: delivery.name }, signal)
  if (sent.kind === 'rejected') {
    const elsewhere = table.scattered && sent.code === VIOLATED_CONSTRAINT
    const partly = table.views || elsewhere || (delivery.afterUnknown && !table.replaces)
    if (partly && !table.counted) return parked(`${sent.reason}; what of it was applied cannot be counted`)
    if (partly) {
      const present = await countBatch(options, target, delivery.name, signal)
      if (present.kind !== 'done') return outcomeOf({ ...present, kind: 'unknown' })
      if (present.value.rows > 0) return parked(`${sent.reason}; rows of it are there`)
    }
    return refused(options, head, delivery, sent, signal)
  }
  if (sent.kind !== 'done') return outcomeOf(sent)
  if (!count || table.atomic) return { kind: 'applied' }
  return repair(options, head, target, delivery, sent.value, signal)
}

function parked(reason: string): Outcome {
  return { kind: 'unknown', reason: `${reason}: a person must decide`, retryAfter: PARKED }
}

/** Lets this replica fetch what others have written, so that what is counted on it is all there is. */
async function catchUp({ client }: DeliveryOptions, target: string, signal: AbortSignal): Promise<void> {
  await client.command({ query: `SYSTEM SYNC REPLICA ${target}`, abort_signal: signal })
}

/** Counts, and sends what is missing, until nothing is. */
async function repair(
  options: DeliveryOptions,
  head: InsertHead,
  target: string,
  delivery: Delivery,
  server: string,
  signal: AbortSignal,
): Promise<Outcome> {
  const columns = [...head.columns, '_batch', '_seq'].map(quoted).join(', ')
  const into = `INSERT INTO ${target} (${columns}) FORMAT ${head.format}`
  for (let round = 1; round <= REPAIRS; round++) {
    const present = await countBatch(options, target, delivery.name, signal)
    if (present.kind !== 'done') return outcomeOf({ ...present, kind: 'unknown' })
    if (present.value.server !== server)
      return {
        kind: 'unknown',
        reason: `the insert was answered by ${server} and the count by ${present.value.server}: give the sink the address of one server`,
      }
    if (present.value.distinct >= delivery.rows) return whole(options, delivery, present.value)
    const there = await attempt(() => sequence(options, target, delivery.name, signal))
    if (there.kind !== 'done') return outcomeOf({ ...there, kind: 'unknown' })
    const lines = linesOf(delivery.body)
    const missing = lines.flatMap((line, seq) =>
      there.value.has(seq) ? [] : [`${line.toString().slice(0, -1)},${JSON.stringify(delivery.name)},${seq}]\n`],
    )
    options.logger.warn(
      { table: head.table, batch: delivery.name, missing: missing.length, rows: delivery.rows },
      'the table knows a batch and lacks rows of it, as after a crash of the server; they are sent again',
    )
    const token = `${delivery.name}~${round}~${missing.length}`
    const sent = await insert(
      options,
      into,
      Buffer.from(missing.join('')),
      { token, comment: delivery.name, explicit: true },
      signal,
    )
    if (sent.kind !== 'done') return outcomeOf({ ...sent, kind: 'unknown' })
  }
  return { kind: 'unknown', reason: `after ${REPAIRS} repairs rows of it are still missing` }
}

function whole({ logger }: DeliveryOptions, delivery: Delivery, { rows }: Presence): Outcome {
  if (rows > delivery.rows)
    logger.error({ batch: delivery.name, rows: delivery.rows, present: rows }, 'a batch is there more than once')
  return { kind: 'applied' }
}

/** The rows that the server refuses: those that it does not give back when it reads them and may leave some out. */
async function refused(
  { client, table }: DeliveryOptions,
  head: InsertHead,
  delivery: Delivery,
  first: Failure,
  signal: AbortSignal,
): Promise<Outcome> {
  const lines = linesOf(delivery.body)
  const types = new Map(table.columns.map((column) => [column.name, column.type]))
  const structure = literal(
    [...head.columns.map((name) => `${quoted(name)} ${types.get(name) ?? 'String'}`), '_n UInt32'].join(', '),
  )
  const read = async (what: string, rows: readonly string[], errors: number) => {
    const result = await client.query({
      query: `SELECT ${what} FROM format(${head.format}, ${structure}, ${literal(rows.join(''))})`,
      format: 'JSONCompactEachRow',
      clickhouse_settings: {
        ...table.settings,
        max_query_size: String(4 * LARGEST_INSERT.bytes),
        input_format_allow_errors_num: String(errors),
        input_format_allow_errors_ratio: errors > 0 ? 1 : 0,
      },
      abort_signal: signal,
    })
    return result.json<[number]>()
  }
  const numbered = (n: number) => `${lines[n]!.toString().slice(0, -1)},${n}]\n`

  const alone = (n: number) => attempt(() => read('_n', [numbered(n)], 0))
  const found: RowRejection[] = []
  if (first.row !== undefined && first.row >= 0 && first.row < lines.length)
    found.push({ row: first.row, reason: first.reason })
  else
    for (
      let from = 0;
      from < lines.length && found.length < REFUSED_AT_ONCE && !signal.aborted;
      from += TRIED_AT_ONCE
    ) {
      const part = Array.from({ length: Math.min(TRIED_AT_ONCE, lines.length - from) }, (_, n) => from + n)
      const good = await attempt(() => read('_n', part.map(numbered), part.length))
      const taken = new Set(good.kind === 'done' ? good.value.map(([n]) => n) : [])
      for (const n of part.filter((each) => !taken.has(each))) {
        // A part of which every row is bad fails as a whole, so that each must be asked about.
        const asked = good.kind === 'done' && found.length >= EXPLAINED ? first : await alone(n)
        if (asked.kind === 'rejected') found.push({ row: n, reason: asked.reason })
      }
    }
  if (found.length === 0) return parked(`${first.reason}, and no row could be found that is to blame`)
  const others = found.length > 1 ? ` and ${found.length - 1} more` : ''
  return { kind: 'rejected', retry: 'never', reason: `row ${found[0]!.row}${others}: ${first.reason}`, rows: found }
}

interface InsertName {
  readonly token: string
  readonly comment: string
  /** The rows bring `_batch` and `_seq` of their own. */
  readonly explicit?: boolean
}

/** @returns the name of the server that answered */
function insert(
  { inserter, table, compression }: DeliveryOptions,
  query: string,
  body: Uint8Array,
  { token, comment, explicit = false }: InsertName,
  signal: AbortSignal,
): Promise<Result<string>> {
  const settings = {
    ...table.settings,
    insert_deduplication_token: token,
    // Inserts of other settings are not gathered with each other.
    ...(table.named ? { log_comment: comment } : {}),
    ...(explicit ? { [EXPLICIT]: 1 } : {}),
    wait_end_of_query: 1,
  }
  const encoding = compression === 'none' || body.length < SMALL ? undefined : compression
  return attempt(async () =>
    inserter.insert({
      query,
      settings,
      signal,
      ...(encoding ? { body: await PACKERS[encoding](body), encoding } : { body }),
    }),
  )
}

async function countBatch(
  { client }: DeliveryOptions,
  target: string,
  batch: string,
  signal: AbortSignal,
): Promise<Result<Presence>> {
  return attempt(async () => {
    const result = await client.query({
      query: `SELECT toUInt32(count()) AS rows, toUInt32(uniqExact(_seq)) AS distinct FROM ${target} WHERE _batch = ${literal(batch)}`,
      format: 'JSONEachRow',
      abort_signal: signal,
    })
    const [row] = await result.json<{ rows: number; distinct: number }>()
    return { rows: row!.rows, distinct: row!.distinct, server: serverOf(result.response_headers) }
  })
}

async function sequence(
  { client }: DeliveryOptions,
  target: string,
  batch: string,
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const result = await client.query({
    query: `SELECT DISTINCT _seq FROM ${target} WHERE _batch = ${literal(batch)}`,
    format: 'JSONCompactEachRow',
    abort_signal: signal,
  })
  return new Set((await result.json<[number]>()).map(([seq]) => seq))
}

async function attempt<V>(work: () => Promise<V>): Promise<Result<V>> {
  try {
    return { kind: 'done', value: await work() }
  } catch (error) {
    return failureOf(error)
  }
}

function outcomeOf({ kind, reason }: Failure): Outcome {
  return { kind: kind === 'notSent' ? 'notSent' : 'unknown', reason }
}

function serverOf(headers: Readonly<Record<string, unknown>>): string {
  return String(headers['x-clickhouse-server-display-name'] ?? '')
}

/** The rows' texts without their line ends: JSON has no bare line end within. */
function linesOf(body: Uint8Array): Buffer[] {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const lines: Buffer[] = []
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf(NEWLINE, from)
    const to = end === -1 ? text.length : end
    lines.push(text.subarray(from, to))
    from = to + 1
  }
  return lines
}
