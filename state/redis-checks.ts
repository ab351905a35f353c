import { MillraceError, messageOf } from '../core/errors.ts'
import type { Logger } from '../core/logger.ts'
import type { RedisClient } from '../redis/connection.ts'

/** What a store asks of its server's settings. */
export interface CheckOptions {
  readonly place: string
  readonly logger: Logger
  /** Goes on with a server that keeps nothing over a restart. */
  readonly volatile: boolean
}

/**
 * Looks at what the server does with what it has answered for, on each primary: it must write it to a disk, and must not
 * throw keys away when its memory is full.
 *
 * @throws MillraceError STATE_FAILED with the setting to change
 */
export async function checkServers(client: RedisClient, options: CheckOptions): Promise<void> {
  const servers = 'nodes' in client ? client.nodes('master') : [client]
  for (const server of servers) {
    let info: Map<string, string>
    try {
      info = fieldsOf(await server.info())
    } catch (error) {
      options.logger.warn(
        {},
        `the state store ${options.place}: its settings could not be looked at (${messageOf(error)}). See that appendonly is yes and maxmemory-policy is noeviction`,
      )
      return
    }
    refuseEviction(info, options)
    if (info.get('aof_enabled') === '1') continue
    const save = await server.config('GET', 'save').then(
      (said) => (said as string[])[1],
      () => undefined,
    )
    refuseVolatile(save, options)
  }
}

/** Policies that begin with `volatile` spare keys without a life, as the store's are. */
function refuseEviction(info: ReadonlyMap<string, string>, { place }: CheckOptions): void {
  const policy = info.get('maxmemory_policy') ?? ''
  if (info.get('maxmemory') === '0' || !policy.startsWith('allkeys')) return
  throw new MillraceError(
    'STATE_FAILED',
    `the state store ${place} throws keys away when its memory is full (maxmemory-policy ${policy}): state would be lost in silence. Set maxmemory-policy noeviction, or give the state a Redis of its own`,
  )
}

function refuseVolatile(save: string | undefined, { place, logger, volatile }: CheckOptions): void {
  if (save === '' && !volatile) {
    throw new MillraceError(
      'STATE_FAILED',
      `the state store ${place} keeps nothing over a restart: set appendonly yes. If all state may be lost with it, say so with ?volatile=1 in its address`,
    )
  }
  logger.warn(
    {},
    `the state store ${place} has no append-only file${save ? `, only snapshots (save ${save})` : ''}: when it stops, commits since the last snapshot are lost, and sinks may get rows twice. Set appendonly yes`,
  )
}

function fieldsOf(info: string): Map<string, string> {
  return new Map(
    info.split('\r\n').flatMap((line) => {
      const at = line.indexOf(':')
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const]
    }),
  )
}
