import { MillraceError } from '../core/errors.ts'
import type { RedisClient, RedisServerInfo } from '../redis/connection.ts'

/** How durable a commit must be before it counts, beyond what the server's own settings give. */
export interface Durability {
  /** Replicas that must have it; their disks, from Redis 7.2 on. */
  readonly replicas: number
  /** The server's own disk must have it (WAITAOF, Redis 7.2). */
  readonly fsync: boolean
  /** Milliseconds that one wait takes at most; it is waited again. */
  readonly within: number
}

/**
 * What waits until all that a client has written is durable; undefined when nothing was asked for. Waits that are asked for
 * while one is under way are one wait.
 *
 * @throws MillraceError BAD_OPTION when this server cannot
 */
export function durably(
  { replicas, fsync, within }: Durability,
  info: RedisServerInfo | undefined,
  place: string,
): ((client: RedisClient) => Promise<void>) | undefined {
  if (replicas === 0 && !fsync) return undefined
  const [major = 0, minor = 0] = (info?.version ?? '').split('.').map(Number)
  const waitsForDisks = major > 7 || (major === 7 && minor >= 2)
  if (fsync && !waitsForDisks) {
    throw new MillraceError(
      'BAD_OPTION',
      `the state store ${place}: fsync needs Redis 7.2, and this is ${info?.version}: set appendfsync always there instead`,
    )
  }
  if (info?.mode === 'cluster') {
    throw new MillraceError(
      'BAD_OPTION',
      `the state store ${place} is a cluster, where replicas and fsync cannot be asked for: set min-replicas-to-write and appendfsync always there instead`,
    )
  }

  async function wait(client: RedisClient): Promise<void> {
    if (waitsForDisks) {
      const [local, disks] = (await client.call('WAITAOF', fsync ? 1 : 0, replicas, within)) as [number, number]
      if (local >= (fsync ? 1 : 0) && disks >= replicas) return
      throw new Error(`${disks} of ${replicas} replicas have it on their disks`)
    }
    const have = await client.wait(replicas, within)
    if (have < replicas) throw new Error(`${have} of ${replicas} replicas have it`)
  }

  const next = new WeakMap<RedisClient, Promise<void>>()
  const current = new WeakMap<RedisClient, Promise<void>>()
  return (client) => {
    const known = next.get(client)
    if (known) return known
    const asked = (current.get(client) ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        next.delete(client)
        const waiting = wait(client)
        current.set(client, waiting)
        return waiting
      })
    next.set(client, asked)
    return asked
  }
}
