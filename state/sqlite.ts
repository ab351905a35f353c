import { randomBytes } from 'node:crypto'
import { dirname } from 'node:path'
import { MessageChannel, Worker } from 'node:worker_threads'
import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import type { Change, CommitResult, OpenedTask, Store } from '../core/store.ts'
import { lockDataDir } from './lock.ts'
import {
  type CommitThreadData,
  type Merged,
  type OpenedListing,
  type PostedChange,
  type PostedResult,
  posted,
  type Reply,
  received,
  type Started,
  type ThreadData,
} from './messages.ts'
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
  const committer = link('sqlite-thread', {
    path,
    port: port1,
    acceptOlder,
    id: runtime.id(),
    secret: randomBytes(32),
  } satisfies CommitThreadData)
  let reader: Link
  let identity: Identity
  try {
    identity = await committer.started
    reader = link('sqlite-reader', { path, port: port2 } satisfies ThreadData)
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
      if (closed) return { kind: 'failed', error: closedError(path) }
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

/** One of the store's threads, as it is seen from here. */
interface Link {
  readonly started: Promise<Identity>
  /** @throws MillraceError what the thread answered, or that it is gone */
  ask<T>(request: { kind: string; [field: string]: unknown }, transfer?: ArrayBuffer[]): Promise<T>
  /** Lets the thread end what is under way, and close. */
  end(): Promise<void>
}

function link(file: string, data: CommitThreadData | ThreadData): Link {
  const here = import.meta.url
  const worker = new Worker(new URL(`./${file}${here.endsWith('.ts') ? '.ts' : '.js'}`, here), {
    name: `millrace ${file}`,
    workerData: data,
    transferList: [data.port],
  })
  const waiting = new Map<number, { resolve: (value: any) => void; reject: (error: MillraceError) => void }>()
  let last = 0
  let gone: MillraceError | undefined
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  let start!: (message: Started) => void
  const started = new Promise<Identity>((resolve, reject) => {
    start = (message) => ('ready' in message ? resolve(message.ready) : reject(received(message.error)))
  })
  started.catch(() => undefined)

  function lose(error: MillraceError): void {
    gone ??= error
    start({ error: posted(gone) })
    for (const { reject } of waiting.values()) reject(gone)
    waiting.clear()
  }

  worker.on('message', (message: Started | readonly Reply[]) => {
    if (!Array.isArray(message)) return start(message as Started)
    for (const reply of message as readonly Reply[]) {
      const asked = waiting.get(reply.id)
      waiting.delete(reply.id)
      if ('error' in reply) asked?.reject(received(reply.error))
      else asked?.resolve(reply.value)
    }
  })
  worker.once('error', (thrown) => {
    lose(
      new MillraceError(
        'INTERNAL',
        `state file ${data.path}: its thread failed: ${posted(thrown).message}. Start again`,
        { cause: thrown },
      ),
    )
  })
  worker.once('exit', () => lose(closedError(data.path)))

  return {
    started,
    ask(request, transfer = []) {
      if (gone) return Promise.reject(gone)
      last += 1
      const id = last
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject })
        worker.postMessage({ ...request, id }, transfer)
      })
    },
    async end() {
      if (gone === undefined) await this.ask({ kind: 'close' }).catch(() => undefined)
      await exited
    },
  }
}

function closedError(path: string): MillraceError {
  return new MillraceError('INTERNAL', `state file ${path}: the store is closed. Open it again`)
}

/** The change with all of its bytes copied into one buffer, which goes to the other thread without another copy. */
function pack(change: Change, installed: WeakMap<Uint8Array, Content>): { packed: PostedChange; buffer: ArrayBuffer } {
  let size = 0
  withBytes(change, installed, (bytes) => {
    size += bytes.byteLength
    return bytes
  })
  const buffer = Buffer.allocUnsafeSlow(size).buffer as ArrayBuffer
  let at = 0
  const packed = withBytes(change, installed, (bytes) => {
    const copy = new Uint8Array(buffer, at, bytes.byteLength)
    copy.set(bytes)
    at += bytes.byteLength
    return copy
  })
  return { packed, buffer }
}

function withBytes(
  change: Change,
  installed: WeakMap<Uint8Array, Content>,
  map: (bytes: Uint8Array) => Uint8Array,
): PostedChange {
  const { compactions, ...rest } = change
  return {
    ...rest,
    ...(change.blobs && { blobs: change.blobs.map((blob) => ({ ...blob, bytes: map(blob.bytes) })) }),
    ...(change.staged && { staged: change.staged.map((batch) => ({ ...batch, body: map(batch.body) })) }),
    ...(change.deadLetters && {
      deadLetters: change.deadLetters.map((letter) => ({ ...letter, bytes: map(letter.bytes) })),
    }),
    ...(change.lanes && {
      lanes: change.lanes.map(({ replace, ...lane }) =>
        replace ? { ...lane, replace: { of: replace.of, by: { ...replace.by, body: map(replace.by.body) } } } : lane,
      ),
    }),
    ...(compactions && {
      compactions: compactions.map(({ bytes, ...compaction }) => {
        const stored = bytes && installed.get(bytes)
        if (stored) return { ...compaction, installed: stored }
        return bytes ? { ...compaction, bytes: map(bytes) } : compaction
      }),
    }),
  }
}
