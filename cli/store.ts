import { existsSync } from 'node:fs'
import { MillraceError } from '../core/errors.ts'
import type { Logger } from '../core/logger.ts'
import { systemRuntime } from '../core/runtime.ts'
import type { Store } from '../core/store.ts'
import { inspect, type RemoteInspector, type StateInspector } from '../state/inspect.ts'
import { redisStore } from '../state/redis.ts'
import { inspectRedis } from '../state/redis-inspect.ts'
import { sqliteStore } from '../state/sqlite.ts'
import { existingDataDir, statePath } from './data-dir.ts'

/** Where the state is: in a data directory, or in a Redis that several workers share. */
export interface StatePlace {
  readonly data: string
  /** `redis://…`, as `redisStore` takes it. */
  readonly store?: string | undefined
}

/** Either view: its answers are awaited. */
export type Inspector = StateInspector | RemoteInspector

/**
 * Opens the store: the Redis that is named, or the state file of the data directory.
 *
 * @param url `redis://…`; undefined or empty: the state file
 */
export async function openStore(
  url: string | undefined,
  dataDir: string,
  { acceptOlder = false, logger }: { acceptOlder?: boolean; logger: Logger },
): Promise<Store> {
  if (!url) return sqliteStore({ path: statePath(dataDir), runtime: systemRuntime, acceptOlder })
  redisOnly(url)
  return redisStore({ url, runtime: systemRuntime, env: process.env, logger })
}

/**
 * Looks into the state, also while a pipeline runs.
 *
 * @throws MillraceError NOT_FOUND, STATE_TOO_NEW, STATE_DAMAGED, STATE_FAILED
 */
export async function inspecting<T>(place: StatePlace, look: (inspector: Inspector) => Promise<T>): Promise<T> {
  const inspector = await open(place)
  try {
    return await look(inspector)
  } finally {
    await inspector.close()
  }
}

async function open({ data, store }: StatePlace): Promise<Inspector> {
  if (store) {
    redisOnly(store)
    return inspectRedis({ url: store, env: process.env })
  }
  const path = statePath(existingDataDir(data))
  if (existsSync(path)) return inspect(path)
  throw new MillraceError(
    'NOT_FOUND',
    `${data} holds no state file: no pipeline has run there; say with --data where one has`,
  )
}

function redisOnly(url: string): void {
  if (/^rediss?(\+sentinel)?:\/\//.test(url)) return
  throw new MillraceError(
    'BAD_OPTION',
    "--store must be the address of a Redis, such as 'redis://host:6379'; for a folder, say --data",
  )
}
