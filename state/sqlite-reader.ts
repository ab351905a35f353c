/** The thread that reads, merges and copies the write-ahead log into the file, on a connection that makes no commit. */
import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { crc32 } from 'node:zlib'
import { mergeBlobs } from '../core/compaction.ts'
import { MillraceError } from '../core/errors.ts'
import type { MergeRequest } from '../core/store.ts'
import { LAST_BIT_BYTES, PAGE_BYTES, readIdentity, stateError, stateReader } from './format.ts'
import {
  type FromReader,
  type Merged,
  type PostedError,
  posted,
  type ReadRequest,
  type Reply,
  received,
  type Started,
  type ThreadData,
  type ToReader,
} from './messages.ts'
import { type Content, PIECE_BYTES } from './rows.ts'

const CHECKPOINT_ROUNDS = 8

const { path, port: committer } = workerData as ThreadData
const main = parentPort!
const db = new DatabaseSync(path, { timeout: 5_000 })
db.exec(
  'PRAGMA synchronous = FULL; PRAGMA checkpoint_fullfsync = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON',
)
const read = stateReader(db, path)
const statements = {
  checkpoint: db.prepare('PRAGMA wal_checkpoint(PASSIVE)'),
  begin: db.prepare('BEGIN'),
  end: db.prepare('ROLLBACK'),
}
/** Who waits for pieces to be stored: the answers come in the order of the pieces. */
const storing: { resolve: (first: number) => void; reject: (error: MillraceError) => void }[] = []

main.on('message', (request: ReadRequest) => {
  if (request.kind === 'close') return close(request.id)
  answer(request).then(
    ({ value, transfer }) => reply({ id: request.id, value }, transfer),
    (thrown) => reply({ id: request.id, error: posted(stateError(path, thrown)) }),
  )
})
committer.on('message', (message: ToReader) => {
  if (message.kind === 'checkpoint') tell({ kind: 'checkpointed', ...checkpoint() })
  else if (message.kind === 'stored') storing.shift()?.resolve(message.first)
  else storing.shift()?.reject(received(message.error))
})

main.postMessage({ ready: readIdentity(db, path) } satisfies Started)

function close(id: number): void {
  db.close()
  reply({ id, value: undefined })
  committer.close()
  main.close()
}

async function answer(
  request: Exclude<ReadRequest, { kind: 'close' }>,
): Promise<{ value?: unknown; transfer?: ArrayBuffer[] }> {
  if (request.kind === 'read') {
    const bytes = request.blobs.map(({ slot, content }) => read.content(content, `${request.task}: state of ${slot}`))
    return { value: bytes, transfer: bytes.map((one) => one.buffer) }
  }
  const merged = await merge(request.task, request.request)
  return { value: merged, transfer: merged.bytes ? [merged.bytes.buffer] : [] }
}

async function merge(task: string, { slot, format, blobs, oldest, horizon }: MergeRequest): Promise<Merged> {
  const merged = mergeBlobs(format, readBlobs(task, slot, blobs), { oldest, horizon })
  if (merged === undefined) return { bytes: undefined }
  const alone = merged.byteLength === merged.buffer.byteLength && merged.buffer instanceof ArrayBuffer
  const bytes = alone ? new Uint8Array(merged.buffer as ArrayBuffer) : new Uint8Array(merged)
  return bytes.length <= PIECE_BYTES ? { bytes } : { bytes, installed: await install(task, slot, bytes) }
}

/** All of them as of one commit. */
function readBlobs(name: string, slot: string, ids: readonly number[]): Uint8Array[] {
  statements.begin.run()
  try {
    const task = read.tasks(read.progress()).find((row) => row.name === name)
    return ids.map((id) => {
      const row = task && read.blob(task.id, id)
      if (row?.slot !== slot) throw new MillraceError('NOT_FOUND', `${name}: ${slot} has no blob ${id}`)
      return read.content(row.content, `${name}: blob ${id} of ${slot}`)
    })
  } finally {
    statements.end.run()
  }
}

/** Has the bytes stored in bounded pieces between the commits, so that the one that installs them only flips a row. */
async function install(task: string, slot: string, bytes: Uint8Array): Promise<Content> {
  const pieces = Math.ceil(bytes.length / PIECE_BYTES)
  let first = 0
  for (let index = 0; index < pieces; index += 1) {
    const piece = bytes.slice(index * PIECE_BYTES, (index + 1) * PIECE_BYTES)
    first = await new Promise<number>((resolve, reject) => {
      storing.push({ resolve, reject })
      committer.postMessage({ kind: 'piece', task, slot, pieces, index, first, bytes: piece } satisfies FromReader, [
        piece.buffer,
      ])
    })
  }
  return { first, pieces, size: bytes.length, sum: crc32(bytes) }
}

/** Copies until little is left: what is committed meanwhile goes on filling the log. */
function checkpoint(): { error?: PostedError } {
  try {
    let before = 0
    for (let round = 0; round < CHECKPOINT_ROUNDS; round += 1) {
      const { checkpointed } = statements.checkpoint.get() as { checkpointed: number }
      if (round > 0 && (checkpointed - before) * PAGE_BYTES <= LAST_BIT_BYTES / 2) break
      before = checkpointed
    }
    return {}
  } catch (thrown) {
    return { error: posted(stateError(path, thrown)) }
  }
}

function reply(message: Reply, transfer: ArrayBuffer[] = []): void {
  main.postMessage([message], transfer)
}

function tell(message: FromReader): void {
  committer.postMessage(message)
}
