/** The thread that owns the state file's writing connection: what waits while a transaction runs goes into the next. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { CommitResult } from '../core/store.ts'
import { stateError } from './format.ts'
import {
  type CommitRequest,
  type CommitThreadData,
  type FromReader,
  type PiecePosted,
  posted,
  type Reply,
  received,
  type Started,
  type ToReader,
} from './messages.ts'
import { PIECE_BYTES } from './rows.ts'
import { openStateFile, type StateFile } from './state-file.ts'

/** The most changes of one transaction. */
const GROUP_CHANGES = 1_000
/** The most bytes of one transaction, unless one change has more. */
const GROUP_BYTES = 16 * PIECE_BYTES

type Commit = Extract<CommitRequest, { kind: 'commit' }>

const { port: reader, ...options } = workerData as CommitThreadData
const main = parentPort!
const inbox: CommitRequest[] = []
const pieces: PiecePosted[] = []
let closed = false

try {
  const file = openStateFile({ ...options, checkpoint: () => tell({ kind: 'checkpoint' }) })
  start({ ready: file.identity })
  main.on('message', (request: CommitRequest) => {
    inbox.push(request)
    run(file)
  })
  reader.on('message', (message: FromReader) => {
    hear(file, message)
    run(file)
  })
} catch (thrown) {
  start({ error: posted(stateError(options.path, thrown)) })
  reader.close()
}

/** Works until nothing waits: requests first, then pieces of merged blobs, then sweeping, a bounded step each. */
function run(file: StateFile): void {
  while (!closed) {
    drain(main, (request: CommitRequest) => inbox.push(request))
    drain(reader, (message: FromReader) => hear(file, message))
    const piece = pieces.shift()
    if (inbox.length > 0) answer(file)
    if (piece && !closed) install(file, piece)
    else if (!closed && inbox.length === 0 && !file.sweep()) return
  }
}

function drain<M>(port: MessagePort, take: (message: M) => void): void {
  for (let found = receiveMessageOnPort(port); found; found = receiveMessageOnPort(port)) take(found.message)
}

function hear(file: StateFile, message: FromReader): void {
  if (message.kind === 'piece') pieces.push(message)
  else file.checkpointed(message.error && received(message.error))
}

/** Answers what is at the head of the queue: commits that follow one another, or one request of another kind. */
function answer(file: StateFile): void {
  const group = commitsAtHead()
  if (group.length > 0) {
    const results = file.commit(group.map((request) => request.change))
    const value = (result: CommitResult) =>
      result.kind === 'failed' ? { ...result, error: posted(result.error) } : result
    reply(group.map(({ id }, index) => ({ id, value: value(results[index]!) })))
    return
  }
  const request = inbox.shift()!
  try {
    reply([{ id: request.id, value: other(file, request) }])
  } catch (thrown) {
    reply([{ id: request.id, error: posted(stateError(options.path, thrown)) }])
  }
  if (closed) {
    main.close()
    reader.close()
  }
}

function commitsAtHead(): Commit[] {
  const group: Commit[] = []
  let size = 0
  for (const request of inbox) {
    if (request.kind !== 'commit' || group.length === GROUP_CHANGES || (size > 0 && size + request.size > GROUP_BYTES))
      break
    group.push(request)
    size += request.size
  }
  inbox.splice(0, group.length)
  return group
}

function other(file: StateFile, request: CommitRequest): unknown {
  switch (request.kind) {
    case 'open':
      return file.open(request.task)
    case 'body':
      return file.body(request.task, request.name)
    case 'tasks':
      return file.tasks()
    default:
      file.close()
      closed = true
      return undefined
  }
}

function install(file: StateFile, piece: PiecePosted): void {
  try {
    tell({ kind: 'stored', first: file.install(piece) })
  } catch (thrown) {
    tell({ kind: 'refused', error: posted(stateError(options.path, thrown)) })
  }
}

function reply(replies: readonly Reply[]): void {
  main.postMessage(replies)
}

function tell(message: ToReader): void {
  reader.postMessage(message)
}

function start(message: Started): void {
  main.postMessage(message)
}
