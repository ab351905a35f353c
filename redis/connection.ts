import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { messageOf } from '../core/errors.ts'
import type { RedisAddress } from './address.ts'
import { NotReached } from './failure.ts'

export type RedisClient = Redis | Cluster

/** What a server says of itself. */
export interface RedisServerInfo {
  readonly version: string
  readonly mode: 'standalone' | 'cluster' | 'sentinel'
}

/**
 * A client that sends each command once at most. ioredis sends again what was in flight when a connection is lost; here a
 * connection that fails is given up, with all that was sent on it, and the next call makes a new one.
 */
export interface RedisConnection {
  /**
   * The client, connected; a cluster's where the server is of one.
   *
   * @throws NotReached
   */
  client(): Promise<RedisClient>
  /** Gives a client up whose answers can no longer be trusted to come. */
  drop(client: RedisClient): void
  /** Of the server that was connected to last. */
  info(): RedisServerInfo | undefined
  close(): void
}

export interface ConnectionOptions {
  /** A command that takes longer is of unknown outcome, milliseconds. */
  readonly timeout: number
  /** Milliseconds for a connection to come about. @default 5000 */
  readonly connectTimeout?: number
}

export function redisConnection(
  address: RedisAddress,
  { timeout, connectTimeout = 5_000 }: ConnectionOptions,
): RedisConnection {
  let connecting: Promise<RedisClient> | undefined
  let current: RedisClient | undefined
  let info: RedisServerInfo | undefined
  let closed = false

  const options = {
    ...(address.username === undefined ? {} : { username: address.username }),
    ...(address.password === undefined ? {} : { password: address.password }),
    ...(address.tls ? { tls: { ...address.tls } } : {}),
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    enableAutoPipelining: false,
    // Its check asks for INFO, which a user may have no right to; who is loading says so itself.
    enableReadyCheck: false,
    disableClientInfo: true,
    commandTimeout: timeout,
    connectTimeout,
    retryStrategy: () => null,
  } satisfies RedisOptions

  /** A client for each server that may be asked; one alone, where Sentinels know which it is. */
  function* candidates(): Generator<Redis> {
    const { nodes, sentinel, db, tls } = address
    if (sentinel === undefined) {
      for (const { host, port } of nodes) yield new Redis({ ...options, host, port, db })
      return
    }
    const secure = tls ? { enableTLSForSentinelMode: true, sentinelTLS: { ...tls } } : {}
    const password = address.sentinelPassword === undefined ? {} : { sentinelPassword: address.sentinelPassword }
    yield new Redis({
      ...options,
      ...secure,
      ...password,
      sentinels: nodes.map((node) => ({ ...node })),
      name: sentinel,
      db,
      sentinelRetryStrategy: () => null,
    })
  }

  async function connect(): Promise<RedisClient> {
    let failure: unknown
    for (const client of candidates()) {
      try {
        await connected(client)
        info = await hello(client)
        if (info.mode !== 'cluster') return kept(client)
        client.disconnect()
        break
      } catch (error) {
        client.disconnect()
        failure = error
      }
    }
    if (info?.mode !== 'cluster') throw failure
    const { retryStrategy: _, ...redisOptions } = options
    const cluster = new Cluster([...address.nodes], {
      lazyConnect: true,
      // What is for a node that is being connected waits for that; there is no later connection of the whole to wait for.
      enableOfflineQueue: true,
      clusterRetryStrategy: () => null,
      retryDelayOnFailover: 0,
      slotsRefreshTimeout: connectTimeout,
      redisOptions,
    })
    try {
      await connected(cluster)
      return kept(cluster)
    } catch (error) {
      cluster.disconnect()
      throw error
    }
  }

  function kept(client: RedisClient): RedisClient {
    if (closed) {
      client.disconnect()
      throw new NotReached('the connection was closed')
    }
    current = client
    client.once('end', () => forget(client))
    return client
  }

  function forget(client: RedisClient): void {
    if (current !== client) return
    current = undefined
    connecting = undefined
  }

  return {
    client() {
      if (closed) return Promise.reject(new NotReached('the connection was closed'))
      if (!connecting) {
        const asked = connect()
        connecting = asked
        asked.catch(() => {
          if (connecting === asked) connecting = undefined
        })
      }
      return connecting
    },
    drop(client) {
      forget(client)
      client.disconnect()
    },
    info: () => info,
    close() {
      closed = true
      current?.disconnect()
    },
  }
}

/** Resolves when the client is ready. What it says on the way is the reason of a failure: its promise has only a general one. */
async function connected(client: RedisClient): Promise<void> {
  let said: unknown
  client.on('error', (error) => {
    said = error
  })
  try {
    await client.connect()
  } catch (error) {
    throw new NotReached(messageOf(said ?? error), { cause: said ?? error })
  }
}

/** HELLO without arguments changes nothing, needs no right, and says what kind of server it is. */
async function hello(client: Redis): Promise<RedisServerInfo> {
  const reply = (await client.call('HELLO')) as unknown[]
  const said = new Map<string, unknown>()
  for (let at = 0; at + 1 < reply.length; at += 2) said.set(String(reply[at]), reply[at + 1])
  return {
    version: String(said.get('version') ?? ''),
    mode: (said.get('mode') ?? 'standalone') as RedisServerInfo['mode'],
  }
}
