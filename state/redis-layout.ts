/** How the state is laid out in Redis: the keys of a task, the scripts that change them, and how rows are read. */
import { MillraceError } from '../core/errors.ts'
import { script } from '../redis/script.ts'
import type { LedgerHead } from './ledger.ts'
import {
  type BatchRow,
  type BlobRow,
  batchRow,
  blobRow,
  type Content,
  PIECE_BYTES,
  rowSum,
  type Tally,
} from './rows.ts'

/** The version of the layout. A store of a later one is refused. */
export const REDIS_FORMAT = 1

/** The keys of what belongs to no task. */
export function storeKeys(prefix: string) {
  return { meta: `${prefix}:meta`, tasks: `${prefix}:tasks`, letters: `${prefix}:letters` }
}

export interface TaskKeys {
  /** A hash: fence, deaths, the count of commits, the token of the last one, the head's row and the facts. */
  readonly task: string
  /** Hashes of rows by their number. */
  readonly blobs: string
  readonly batches: string
  /** A stream of dead letters, the number of each in its id. */
  readonly letters: string
  /** A hash of bytes by their number. */
  readonly pieces: string
}

/** The keys of a task: with one hash tag, so that a cluster keeps them on one node, where one script can change them. */
export function taskKeys(prefix: string, task: string): TaskKeys {
  const tag = `${prefix}:{${task.replaceAll('%', '%25').replaceAll('{', '%7B').replaceAll('}', '%7D')}}`
  return {
    task: `${tag}:task`,
    blobs: `${tag}:blobs`,
    batches: `${tag}:batches`,
    letters: `${tag}:letters`,
    pieces: `${tag}:pieces`,
  }
}

/** Draws the store's identity once: whoever comes first. */
export const IDENTITY = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'id', ARGV[2], 'secret', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'format', 'id', 'secret')`)

/** Raises a task's fence and counts a death; asked again by the same opener, it changes nothing. Gives all rows. */
export const OPEN = script(`
if redis.call('HGET', KEYS[1], 'opener') ~= ARGV[1] then
  redis.call('HINCRBY', KEYS[1], 'fence', 1)
  redis.call('HINCRBY', KEYS[1], 'deaths', 1)
  redis.call('HSETNX', KEYS[1], 'commits', 0)
  redis.call('HSET', KEYS[1], 'opener', ARGV[1])
end
return {
  redis.call('HMGET', KEYS[1], 'fence', 'deaths', 'commits', 'row', 'facts'),
  redis.call('HGETALL', KEYS[2]),
  redis.call('HGETALL', KEYS[3]),
  redis.call('HKEYS', KEYS[4])
}`)

/** The same rows, without opening the task. */
export const LOOK = script(`
return {
  redis.call('HMGET', KEYS[1], 'fence', 'deaths', 'commits', 'row', 'facts'),
  redis.call('HGETALL', KEYS[2]),
  redis.call('HGETALL', KEYS[3])
}`)

/**
 * Applies a group of changes, whole or not at all. All checks stand before the first write; Redis itself refuses a script for
 * want of memory, of replicas or of a disk at its first write only. It is safe to run twice: who has applied it
 * already, and nothing since, says so.
 *
 * ARGV: fence, commits before, token, whether to write in any case, the head's row, the facts ('' keeps them), whether
 * deaths are cleared; then operations: command, number of its key, count of arguments, arguments. A call takes at most
 * 4,000 of them: Lua's unpack fails at 8,000.
 */
export const COMMIT = script(`
local task = redis.call('HMGET', KEYS[1], 'fence', 'commits', 'token')
if task[1] ~= ARGV[1] then return 'fenced' end
if task[2] ~= ARGV[2] then
  if task[3] ~= ARGV[3] then return 'behind' end
  if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'token', ARGV[3]) end
  return 'committed'
end
local at = 8
while at <= #ARGV do
  local command, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  local from, last = at + 3, at + 2 + count
  while from <= last do
    local to = math.min(last, from + 3999)
    redis.call(command, key, unpack(ARGV, from, to))
    from = to + 1
  end
  at = last + 1
end
redis.call('HSET', KEYS[1], 'commits', ARGV[2] + 1, 'token', ARGV[3], 'row', ARGV[5])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'facts', ARGV[6]) end
if ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'deaths', 0) end
return 'committed'`)

/** The place of a key in COMMIT's KEYS. */
export const KEY = { blobs: '2', batches: '3', letters: '4', pieces: '5' } as const

/** Under a task's fence: stores a piece that nothing refers to yet, or deletes such, or sets the count of deaths. */
export const UNDER_FENCE = script(`
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 'fenced' end
redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
return 'done'`)

/** Draws numbers for dead letters: none is given twice, also when the counter was lost. Gives the first. */
export const DRAW = script(`
local before = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[2]))
redis.call('SET', KEYS[1], string.format('%.0f', before + ARGV[1]))
return string.format('%.0f', before + 1)`)

/** What OPEN and LOOK answer. */
export type TaskReply = [
  head: [string | null, string | null, string | null, string | null, string | null],
  blobs: string[],
  batches: string[],
  pieces?: string[],
]

/** A task as its rows say. */
export interface TaskRows {
  readonly fence: number
  readonly deaths: number
  readonly head: LedgerHead
  /** Each slot's oldest first. */
  readonly blobs: readonly BlobRow[]
  /** Each lane in its order. */
  readonly batches: readonly BatchRow[]
}

/** The text of a head's row, with its checksum. */
export function headRow(task: string, { facts, ...said }: LedgerHead): string {
  const text = JSON.stringify({ ...said, facts: facts?.length ?? -1 })
  return `${rowSum('task', task, text, facts ?? '')} ${text}`
}

/**
 * @param place what messages call the store
 * @returns undefined when the task was never opened
 * @throws MillraceError STATE_DAMAGED
 */
export function readTask(place: string, task: string, reply: TaskReply): TaskRows | undefined {
  const [[fence, deaths, commits, row, facts], blobs, batches] = reply
  if (fence === null) return undefined
  const head = row === null ? undefined : headOf(place, task, row, facts ?? undefined)
  const known = head ?? { ...EMPTY, facts: undefined }
  if (known.commits !== Number(commits))
    throw redisDamaged(place, `${task}: it is at commit ${commits}, and its row is of commit ${known.commits}`)
  return {
    fence: Number(fence),
    deaths: Number(deaths),
    head: known,
    blobs: rows(place, 'blobs', `state of ${task}`, blobs, known.blobs, blobRow).sort((a, b) => a.order - b.order),
    batches: rows(place, 'batches', `staged batches of ${task}`, batches, known.batches, batchRow).sort(
      (a, b) => a.order - b.order,
    ),
  }
}

const EMPTY: Omit<LedgerHead, 'facts'> = {
  epoch: 0,
  receipts: {},
  next: 1,
  commits: 0,
  blobs: [0, 0],
  batches: [0, 0],
  letters: [0, 0],
  lastLetter: 0,
}

function headOf(place: string, task: string, row: string, facts: string | undefined): LedgerHead {
  const { crc, text } = parts(row)
  if (rowSum('task', task, text, facts ?? '') !== crc) throw redisDamaged(place, `${task}: its row fails its checksum`)
  return { ...(JSON.parse(text) as LedgerHead), facts }
}

function rows<R extends { crc: number }>(
  place: string,
  table: string,
  what: string,
  reply: readonly string[],
  [count, sum]: Tally,
  read: (id: number, crc: number, text: string) => R,
): R[] {
  const found: R[] = []
  let all = 0
  for (let at = 0; at < reply.length; at += 2) {
    const { crc, text } = parts(reply[at + 1]!)
    if (rowSum(table, reply[at]!, text) !== crc)
      throw redisDamaged(place, `${what}: row ${reply[at]} fails its checksum`)
    found.push(read(Number(reply[at]), crc, text))
    all = (all ^ crc) >>> 0
  }
  if (found.length !== count || all !== sum)
    throw redisDamaged(place, `${what}: ${found.length} rows where ${count} were written`)
  return found
}

function parts(row: string): { crc: number; text: string } {
  const at = row.indexOf(' ')
  return { crc: Number(row.slice(0, at)), text: row.slice(at + 1) }
}

/** The fields of `pieces` that hold a content. */
export function fieldsOf({ first, pieces }: Content): string[] {
  return Array.from({ length: pieces }, (_, n) => String(first + n))
}

/** How many bytes the n-th piece of a content has. */
export function pieceSize({ size }: Content, n: number): number {
  return Math.min(PIECE_BYTES, size - n * PIECE_BYTES)
}

export function redisDamaged(place: string, found: string): MillraceError {
  return new MillraceError(
    'STATE_DAMAGED',
    `the state in ${place} is damaged: ${found}. Another program changed its keys, or Redis lost some of them: put a copy of ` +
      'the whole of it back; or use another prefix and start from the beginning of the sources, knowing that sinks may get rows twice',
  )
}
