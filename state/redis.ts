import { randomBytes } from 'node:crypto'
import { type Duration, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Logger, silentLogger } from '../core/logger.ts'
import type { Runtime } from '../core/runtime.ts'
import type { OpenedTask, Store } from '../core/store.ts'
import { redisAddress } from '../redis/address.ts'
import { redisConnection } from '../redis/connection.ts'
import { runScript } from '../redis/script.ts'
import { Ledger } from './ledger.ts'
import { closedError, link } from './link.ts'
import type { Merged } from './messages.ts'
import { pack } from './pack.ts'
import { asking } from './redis-asking.ts'
import { checkServers } from './redis-checks.ts'
import type { Wanted } from './redis-contents.ts'
import { durably } from './redis-durable.ts'
import {
  DRAW,
  fieldsOf,
  IDENTITY,
  OPEN,
  REDIS_FORMAT,
  readTask,
  storeKeys,
  type TaskReply,
  taskKeys,
  UNDER_FENCE,
} from './redis-layout.ts'
import { settingsOf } from './redis-settings.ts'
import { RedisTask, type RedisTaskHost } from './redis-task.ts'
import type { RedisThreadAsk, RedisThreadData } from './redis-thread.ts'
import { type Content, storedBatch } from './rows.ts'

export interface RedisStoreOptions {
  /**
   * Where the Redis is: `redis://` or, with TLS, `rediss://`; several servers of a cluster with commas between them; or
   * `redis+sentinel://a:26379,b:26379/NAME`. Behind a `?` the address may say `prefix`, `replicas`, `fsync=1`, `patience`, `timeout` and `volatile=1`, which stand for the options of those names.
   */
  readonly url: string
  /** Names the store when it is made. */
  readonly runtime: Runtime
  /** `REDIS_USER`, `REDIS_PASSWORD`, `REDIS_CA`, `REDIS_CERT` and `REDIS_KEY`. @default none of them */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** What its keys begin with: stores with different ones know nothing of one another. @default 'millrace' */
  readonly prefix?: string
  /** Replicas that must have a commit before it counts; from Redis 7.2 on, on their disks. @default 0 */
  readonly replicas?: number
  /** The server's own disk must have a commit before it counts: needs Redis 7.2. @default false */
  readonly fsync?: boolean
  /** How long it is asked again when nothing, or nothing useful, is answered: a failover must fit in. @default '30s' */
  readonly patience?: Duration
  /** An answer that takes longer is asked for again. @default '10s' */
  readonly timeout?: Duration
  /** Goes on with a Redis that keeps nothing over a restart. @default false */
  readonly volatile?: boolean
  /** @default none */
  readonly logger?: Logger
}

/**
 * The store of several workers, on one machine or many: a Redis, alone or a cluster, that all of them reach.
 *
 * A task's state is loaded when it is opened. A commit is one Lua script that checks the task's fence and place before its
 * first write, and is safe to run twice: a commit of which the answer was lost is asked for again, on a new connection,
 * until it is known or `patience` ends. Commits of one task that wait go together; those of several are on their way at
 * once. Rows and bytes carry checksums.
 *
 * It survives the death of any worker at any moment, and that of Redis as far as Redis does: with `appendonly yes` and
 * `appendfsync everysec` a crash of its machine takes up to a second of commits along, and a failover to a replica those
 * that the replica had not got. A store that no longer has what it answered for is noticed by those who knew better: this
 * worker while it runs, and the group's witness (STATE_BEHIND). To lose nothing, say `replicas` and `fsync`, or set
 * `appendfsync always` and `min-replicas-to-write`. A Redis that evicts keys, or keeps nothing over a restart, is refused.
 *
 * @throws MillraceError BAD_OPTION, STATE_FAILED, STATE_TOO_NEW
 */
export async function redisStore(options: RedisStoreOptions): Promise<Store> {
  const { url, runtime, env = {}, logger = silentLogger } = options
  if (typeof url !== 'string')
    throw new MillraceError(
      'BAD_OPTION',
      `redisStore: url must be an address such as 'redis://host:6379', got ${shown(url)}`,
    )
  const address = redisAddress(url, 'redisStore: url', env)
  const { prefix, replicas, fsync, patience, timeout, volatile } = settingsOf(options, address.settings)
  const place = `${address.shown}${prefix === 'millrace' ? '' : ` (${prefix})`}`
  const keys = storeKeys(prefix)
  const connection = redisConnection(address, { timeout })
  const asked = asking(connection, runtime, place, patience)

  let identity: { id: string; secret: Buffer }
  let durable: RedisTaskHost['durable']
  try {
    identity = await identityOf()
    await checkServers(await connection.client(), { place, logger, volatile })
    durable = durably({ replicas, fsync, within: Math.ceil(timeout / 2) }, connection.info(), place)
  } catch (error) {
    connection.close()
    throw error
  }
  const { settings: _, ...plain } = address
  const thread = link<null>('redis-thread', { address: plain, place, patience } satisfies RedisThreadData, {
    what: `the state store ${place}`,
  })

  /** Where merged bytes that were given out are stored already. */
  const installed = new WeakMap<Uint8Array, Content>()
  const tasks = new Map<string, RedisTask>()
  /** The last opening of each task: another has to wait for it. */
  const openings = new Map<string, Promise<unknown>>()
  /** Tasks that were opened in this life and have not committed an epoch since, with the deaths of before. */
  const untried = new Map<string, number>()
  /** The last epoch of each task that this store was told is committed. */
  const known = new Map<string, number>()
  let closed: Promise<void> | undefined
  const host: RedisTaskHost = {
    place,
    asking: asked,
    durable,
    token: () => runtime.id(),
    draw: async (count, floor) =>
      Number(await asked.told((client) => runScript(client, DRAW, [keys.letters], [count, floor]))),
    epoch(task, epoch) {
      untried.delete(task)
      known.set(task, epoch)
    },
  }

  async function identityOf(): Promise<{ id: string; secret: Buffer }> {
    const drawn = [REDIS_FORMAT, runtime.id(), randomBytes(32).toString('hex')]
    const [format, id, secret] = (await asked.told((client) =>
      runScript(client, IDENTITY, [keys.meta], drawn),
    )) as string[]
    if (Number(format) <= REDIS_FORMAT) return { id: id!, secret: Buffer.from(secret!, 'hex') }
    throw new MillraceError(
      'STATE_TOO_NEW',
      `the state in ${place} is of version ${format}, and this Millrace knows versions up to ${REDIS_FORMAT}. Start the newer Millrace that wrote it`,
    )
  }

  const read = (pieces: string, wanted: readonly Wanted[]) =>
    thread.ask<Uint8Array[]>({ kind: 'read', pieces, wanted } satisfies RedisThreadAsk)

  async function open(name: string): Promise<OpenedTask> {
    if (closed) throw closedError(`the state store ${place}`)
    await tasks.get(name)?.settled()
    const at = taskKeys(prefix, name)
    const opener = runtime.id()
    await asked.told((client) => client.sadd(keys.tasks, name))
    const reply = (await asked.told((client) =>
      runScript(client, OPEN, [at.task, at.blobs, at.batches, at.pieces], [opener]),
    )) as TaskReply
    const { fence, deaths: counted, head, blobs: rows, batches } = readTask(place, name, reply)!
    const deaths = counted - 1
    const before = known.get(name) ?? 0
    if (head.epoch < before) throw behind(place, name, head.epoch, before)
    const task = new RedisTask(host, at, new Ledger(name, head, rows, batches), fence)
    tasks.set(name, task)
    untried.set(name, deaths)
    await sweep(name, fence, reply[3] ?? [], [...rows, ...batches])
    const bytes = await read(
      at.pieces,
      rows.map(({ slot, content }) => ({ content, what: `${name}: state of ${slot}` })),
    )
    return {
      fence,
      epoch: head.epoch,
      facts: head.facts,
      receipts: head.receipts,
      deaths,
      blobs: rows.map(({ id, slot, format }, n) => ({ id, slot, format, bytes: bytes[n]! })),
      batches: batches.map(storedBatch),
    }
  }

  /** Deletes pieces that a former life stored ahead and never referred to. */
  async function sweep(
    name: string,
    fence: number,
    pieces: readonly string[],
    rows: readonly { content: Content }[],
  ): Promise<void> {
    const used = new Set(rows.flatMap(({ content }) => fieldsOf(content)))
    const loose = pieces.filter((piece) => !used.has(piece))
    const at = taskKeys(prefix, name)
    for (let n = 0; n < loose.length; n += 1_000) {
      const some = loose.slice(n, n + 1_000)
      await asked.told((client) => runScript(client, UNDER_FENCE, [at.task, at.pieces], [fence, 'HDEL', ...some]))
    }
  }

  /** Takes back the deaths of tasks that lived to see an orderly end; a Redis that is not there keeps them. */
  async function release(): Promise<void> {
    for (const [name, deaths] of untried) {
      const at = taskKeys(prefix, name)
      const { fence } = tasks.get(name)!
      await asked.ask((client) => runScript(client, UNDER_FENCE, [at.task, at.task], [fence, 'HSET', 'deaths', deaths]))
    }
  }

  return {
    id: identity.id,
    secret: identity.secret,
    shared: true,
    async open(task) {
      const opening = (openings.get(task) ?? Promise.resolve()).then(() => open(task))
      const settled = opening.catch(() => undefined)
      openings.set(task, settled)
      try {
        return await opening
      } finally {
        if (openings.get(task) === settled) openings.delete(task)
      }
    },
    async commit(change) {
      if (closed) return { kind: 'failed', error: closedError(`the state store ${place}`) }
      const task = tasks.get(change.task)
      if (task?.fence !== change.fence) return { kind: 'fenced' }
      const { packed, buffer } = pack(change, installed)
      return task.commit(packed, buffer.byteLength)
    },
    async body(task, name) {
      const row = tasks.get(task)?.ledger.batches.get(name)
      if (row === undefined) throw new MillraceError('NOT_FOUND', `${task}: there is no staged batch ${name}`)
      const [bytes] = await read(taskKeys(prefix, task).pieces, [{ content: row.content, what: `batch ${name}` }])
      return bytes!
    },
    async merge(name, { slot, format, blobs, oldest, horizon }) {
      const task = tasks.get(name)
      const wanted = blobs.map((id) => {
        const row = task?.ledger.blobs.get(id)
        if (row?.slot !== slot) throw new MillraceError('NOT_FOUND', `${name}: ${slot} has no blob ${id}`)
        return { content: row.content, what: `${name}: blob ${id} of ${slot}` }
      })
      const first = task!.ledger.reserve(wanted.reduce((sum, { content }) => sum + content.pieces, 1))
      const { task: key, pieces } = taskKeys(prefix, name)
      const merged = await thread.ask<Merged>({
        kind: 'merge',
        task: name,
        keys: { task: key, pieces },
        fence: task!.fence,
        wanted,
        format,
        oldest,
        horizon,
        first,
      } satisfies RedisThreadAsk)
      if (merged.bytes && merged.installed) installed.set(merged.bytes, merged.installed)
      return merged.bytes
    },
    tasks: async () => (await asked.told((client) => client.smembers(keys.tasks))).sort(),
    close() {
      closed ??= (async () => {
        await Promise.all([...tasks.values()].map((task) => task.settled()))
        asked.hurry()
        await release()
        await thread.end()
        connection.close()
      })()
      return closed
    },
  }
}

function behind(place: string, task: string, epoch: number, before: number): MillraceError {
  return new MillraceError(
    'STATE_BEHIND',
    `the state in ${place} has gone back: ${task} is at epoch ${epoch}, and ${before} was committed. Redis lost what it had answered for, in a failover or a restart from an older copy. ` +
      'Put the newest copy back; or, knowing that records are read again and sinks may get rows twice, start again',
  )
}
