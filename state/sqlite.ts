import { randomBytes } from 'node:crypto'
import { dirname } from 'node:path'
import { MessageChannel } from 'node:worker_threads'
import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import type { CommitResult, OpenedTask, Store } from '../core/store.ts'
import { closedError, type Link, link } from './link.ts'
import { lockDataDir } from './lock.ts'
import {
  type CommitThreadData,
  type Merged,
  type OpenedListing,
  type PostedResult,
  posted,
  received,
  type ThreadData,
} from './messages.ts'
import { pack } from './pack.ts'
import type { Content, Identity } from './rows.ts'

export interface SqliteStoreOptions {
  /** The state file. Beside it are its `-wal`, its `.witness` and the folder's `lock`. */
  readonly path: string
  /** Names the store when it is made. */
  readonly runtime: Runtime
  /**
   * Goes on from a file that is older than its witness: records are read again, and sinks may get rows twice.
   *
   * @default false
   */
  readonly acceptOlder?: boolean
}

/**
 * The store of one worker: a single SQLite file, written by a thread of its own.
 *
 * A change is on the disk (WAL, synchronous = FULL) before it is answered; changes that wait while a transaction runs
 * go into the next together. Reading, merging and checkpoints happen on a second thread, beside the commits. Everything
 * is checked when it is read, and a file that was put back from an older copy is noticed by the witness beside it. A
 * power cut may leave the witness behind the file, never ahead of it.
 *
 * @throws MillraceError BAD_OPTION, DATA_DIR_IN_USE, DATA_DIR_UNWRITABLE, DISK_FULL, STATE_DAMAGED, STATE_BEHIND, STATE_TOO_NEW
 */
export async function sqliteStore({ path, runtime, acceptOlder = false }: SqliteStoreOptions): Promise<Store> {
  if (typeof path !== 'string' || path === '') {
    throw new MillraceError(
      'BAD_OPTION',
      `sqliteStore: path must name the state file, such as '.millrace/state.db', got ${shown(path)}`,
    )
  }
  const unlock = lockDataDir(dirname(path))
  const { port1, port2 } = new MessageChannel()
  const committer = link<Identity>(
    'sqlite-thread',
    { path, port: port1, acceptOlder, id: runtime.id(), secret: randomBytes(32) } satisfies CommitThreadData,
    { what: `state file ${path}`, transfer: [port1] },
  )
  let reader: Link<Identity>
  let identity: Identity
  try {
    identity = await committer.started
    reader = link<Identity>('sqlite-reader', { path, port: port2 } satisfies ThreadData, {
      what: `state file ${path}`,
      transfer: [port2],
    })
    await reader.started
  } catch (thrown) {
    await committer.end()
    port2.close()
    unlock()
    throw thrown
  }

  /** Where merged bytes that were given out are stored already. */
  const installed = new WeakMap<Uint8Array, Content>()
  /** The last opening of each task: another has to wait until its blobs are read. */
  const openings = new Map<string, Promise<unknown>>()
  let closed: Promise<void> | undefined

  async function open(task: string): Promise<OpenedTask> {
    const listing = await committer.ask<OpenedListing>({ kind: 'open', task })
    const bytes = await reader.ask<Uint8Array[]>({ kind: 'read', task, blobs: listing.blobs })
    const blobs = listing.blobs.map(({ id, slot, format }, index) => ({ id, slot, format, bytes: bytes[index]! }))
    return { ...listing, blobs }
  }

  return {
    id: identity.id,
    secret: Buffer.from(identity.secret, 'hex'),
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
      if (closed) return { kind: 'failed', error: closedError(`state file ${path}`) }
      const { packed, buffer } = pack(change, installed)
      try {
        const result = await committer.ask<PostedResult>({ kind: 'commit', change: packed, size: buffer.byteLength }, [
          buffer,
        ])
        return result.kind === 'failed' ? { kind: 'failed', error: received(result.error) } : result
      } catch (thrown) {
        return { kind: 'unknown', reason: posted(thrown).message } satisfies CommitResult
      }
    },
    body: (task, name) => committer.ask<Uint8Array>({ kind: 'body', task, name }),
    async merge(task, request) {
      const merged = await reader.ask<Merged>({ kind: 'merge', task, request })
      if (merged.bytes && merged.installed) installed.set(merged.bytes, merged.installed)
      return merged.bytes
    },
    tasks: () => committer.ask<readonly string[]>({ kind: 'tasks' }),
    close() {
      closed ??= (async () => {
        await reader.end()
        await committer.end()
        unlock()
      })()
      return closed
    },
  }
}
