import type { Delivery, Outcome, RowRejection } from '../core/sink.ts'
import type { RedisClient, RedisConnection } from '../redis/connection.ts'
import { type RedisFailure, redisFailure } from '../redis/failure.ts'
import { runScript, type Script } from '../redis/script.ts'
import type { RedisHead, RedisRow } from './redis-rows.ts'
import { APPEND, KEEP, PUBLISH, RANK } from './redis-scripts.ts'

/** Rows of one script, and bytes of their values: it holds the server up for a few milliseconds. */
const SCRIPT_ROWS = 500
const SCRIPT_BYTES = 1_048_576
/** Scripts that are on their way at once. */
const UNDER_WAY = 256
/** What Lua can hand to one command. */
const MOST_FIELDS = 3_000

type Args = (string | number)[]

/** One script on some of the batch's rows. */
interface Call {
  readonly script: Script
  readonly keys: string[]
  readonly args: Args
  /** Their places in the batch. */
  readonly rows: number[]
  bytes: number
}

/** Scripts that must follow one another: the next goes when the one before has been answered. */
type Chain = Call[]

/**
 * Sends a batch as scripts that are safe to be run again, each on keys of one slot. Rows of one key are applied in their
 * order; those of a sorted set, stream or channel go one script after the other.
 */
export async function deliverRows(
  connection: RedisConnection,
  rows: readonly RedisRow[],
  head: RedisHead,
  delivery: Delivery,
  signal: AbortSignal,
): Promise<Outcome> {
  let client: RedisClient
  try {
    client = await connection.client()
  } catch (error) {
    return { kind: 'notSent', reason: redisFailure(error).reason }
  }
  if (signal.aborted) return { kind: 'notSent', reason: 'given up before it was sent' }
  const rejected: RowRejection[] = []
  const failures: RedisFailure[] = []
  const chains = chainsOf(rows, head, delivery, 'nodes' in client, rejected)
  let next = 0
  let sent = false
  const worker = async () => {
    while (next < chains.length && failures.length === 0 && !signal.aborted) {
      const chain = chains[next++]!
      for (const call of chain) {
        if (signal.aborted) return
        sent = true
        try {
          refusals(call, await runScript(client, call.script, call.keys, call.args), rejected)
        } catch (error) {
          failures.push(redisFailure(error))
          return
        }
      }
    }
  }
  const work = Promise.all(Array.from({ length: Math.min(UNDER_WAY, chains.length) }, worker))
  const aborted = Promise.withResolvers<void>()
  const abort = () => aborted.resolve()
  signal.addEventListener('abort', abort)
  await Promise.race([work, aborted.promise])
  signal.removeEventListener('abort', abort)
  if (signal.aborted) {
    // What is on its way may be applied yet: nothing more is told of it.
    connection.drop(client)
    return sent ? { kind: 'unknown', reason: 'given up while it was sent' } : { kind: 'notSent', reason: 'given up' }
  }
  return outcomeOf(connection, client, failures, rejected)
}

function outcomeOf(
  connection: RedisConnection,
  client: RedisClient,
  failures: readonly RedisFailure[],
  rejected: readonly RowRejection[],
): Outcome {
  const lost = failures.find(({ kind }) => kind !== 'refused')
  if (lost) {
    connection.drop(client)
    return { kind: 'unknown', reason: lost.reason }
  }
  const [refused] = failures
  // Some of the batch may be in: sent again, it changes nothing that is.
  if (refused) {
    if (refused.code === 'READONLY' || refused.code === 'MASTERDOWN') connection.drop(client)
    return { kind: 'rejected', retry: 'later', reason: refused.reason }
  }
  return rejected.length > 0
    ? { kind: 'applied', rejected: [...rejected].sort((a, b) => a.row - b.row) }
    : { kind: 'applied' }
}

/** Keys that a script found to hold something else. */
function refusals({ script, rows }: Call, reply: unknown, into: RowRejection[]): void {
  const reason = (type: unknown) => `its key holds a ${type} of another program`
  if (script === KEEP) {
    const said = reply as (number | string)[]
    for (let at = 0; at < said.length; at += 2)
      into.push({ row: rows[Number(said[at])]!, reason: reason(said[at + 1]) })
  } else if (reply !== '') {
    for (const row of rows) into.push({ row, reason: reason(reply) })
  }
}

function chainsOf(
  rows: readonly RedisRow[],
  head: RedisHead,
  delivery: Delivery,
  cluster: boolean,
  rejected: RowRejection[],
): Chain[] {
  if (head.as === 'json' || head.as === 'string' || head.as === 'hash') return keepCalls(rows, head, cluster)
  const chains = new Map<string, Chain>()
  const producer = head.producer ?? delivery.task
  for (const [n, row] of rows.entries()) {
    const count = row.hash ? Object.keys(row.hash).length : 0
    if (count > MOST_FIELDS) {
      rejected.push({ row: n, reason: `${count} fields are more than a stream's entry takes: ${MOST_FIELDS}` })
      continue
    }
    const chain = chains.get(row.key) ?? []
    let call = chain.at(-1)
    if (!call || call.rows.length === SCRIPT_ROWS || call.bytes > SCRIPT_BYTES || call.args.length > MOST_FIELDS * 2) {
      call = { script: SCRIPTS[head.as], keys: keysOf(head.as, row.key), args: [], rows: [], bytes: 0 }
      chain.push(call)
    }
    extend(call, head, producer, row)
    call.rows.push(n)
    chains.set(row.key, chain)
  }
  return [...chains.values()]
}

const SCRIPTS = { 'sorted-set': RANK, stream: APPEND, publish: PUBLISH } as const

function keysOf(as: 'sorted-set' | 'stream' | 'publish', key: string): string[] {
  const mark = markOf(key, 'versions')
  if (as === 'publish') return [mark]
  return as === 'stream' ? [key, mark] : [key, mark, `${mark}:gone`]
}

/** Adds a row's arguments; the first of a call are the life of its keys, which the last row decides. */
function extend(call: Call, { as, maxLength }: RedisHead, producer: string, row: RedisRow): void {
  const { args } = call
  const expires = row.expiresAt ?? ''
  const forget = row.forgetAt !== undefined && row.expiresAt !== undefined ? row.forgetAt : ''
  const version = sortable(row.version)
  if (as === 'sorted-set') {
    args[0] = later(args[0], expires)
    args[1] = later(args[1], forget)
    args.push(row.member!, version, row.deleted ? '' : row.score!, row.forgetAt ?? '')
  } else if (as === 'stream') {
    if (args.length === 0) args.push(producer, '', '', maxLength ?? '')
    args[1] = later(args[1], expires)
    args[2] = later(args[2], forget)
    const fields = Object.entries(row.hash!).flat()
    args.push(version, fields.length, ...fields)
    for (const field of fields) call.bytes += field.length
  } else {
    if (args.length === 0) args.push(row.key, producer, '')
    args[2] = later(args[2], forget)
    args.push(version, expires, row.text!)
    call.bytes += row.text!.length
  }
}

/** The later of two times, where '' is never. */
function later(a: string | number | undefined, b: string | number): string | number {
  return a === undefined || a === '' || b === '' ? b : Math.max(Number(a), Number(b))
}

/** In a cluster a script may touch the keys of one slot only: a row each. */
function keepCalls(rows: readonly RedisRow[], { as }: RedisHead, cluster: boolean): Chain[] {
  const chains: Chain[] = []
  let call: Call | undefined
  for (const [n, row] of rows.entries()) {
    if (!call || cluster || call.rows.length === SCRIPT_ROWS || call.bytes > SCRIPT_BYTES) {
      call = { script: KEEP, keys: [], args: [], rows: [], bytes: 0 }
      chains.push([call])
    }
    const values = row.deleted ? [] : as === 'hash' ? Object.entries(row.hash!).flat() : [row.text!]
    call.keys.push(row.key, markOf(row.key))
    const count = row.deleted ? -1 : values.length
    const what = as === 'hash' ? 'hash' : 'string'
    call.args.push(what, sortable(row.version), row.expiresAt ?? '', row.forgetAt ?? '', count)
    for (const value of values) {
      call.args.push(value)
      call.bytes += value.length
    }
    call.rows.push(n)
  }
  return chains
}

/**
 * The key beside a key that remembers its version, or, of many in it, their versions: in the same slot of a cluster.
 */
export function markOf(key: string, what: 'version' | 'versions' = 'version'): string {
  const open = key.indexOf('{')
  const tagged = open >= 0 && key.indexOf('}', open) > open + 1
  return tagged ? `millrace:${what}:${key}` : `millrace:${what}:{${key}}`
}

const LOWEST = 2n ** 63n

/**
 * A version as a text that sorts as its number does: with 2⁶³ added, in 20 digits. Lua's numbers are exact up to 2⁵³ only.
 */
export function sortable(version: number | string): string {
  if (typeof version === 'number' && version >= 0) {
    // 2⁶³ is 9,223 × 10¹⁵ + 372,036,854,775,808: two sums that are exact, and ten times quicker than a BigInt.
    const low = 372_036_854_775_808 + version
    const carry = Math.floor(low / 1e15)
    return `0${9_223 + carry}${String(low - carry * 1e15).padStart(15, '0')}`
  }
  return (BigInt(version) + LOWEST).toString().padStart(20, '0')
}
