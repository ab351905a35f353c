/** What the store's threads say to one another. */
import type { MessagePort } from 'node:worker_threads'
import { type ErrorCode, MillraceError, messageOf } from '../core/errors.ts'
import type { Change, CommitResult, Compaction, MergeRequest, OpenedTask, StoredBatch } from '../core/store.ts'
import type { BlobRow, Content, Identity } from './rows.ts'

/** What both threads are started with. */
export interface ThreadData {
  readonly path: string
  /** To the other thread. */
  readonly port: MessagePort
}

export interface CommitThreadData extends ThreadData {
  readonly acceptOlder: boolean
  /** Of the store, if it has to be made. */
  readonly id: string
  readonly secret: Uint8Array
}

/** A change whose merged blobs may have been stored beside already. */
export interface PostedChange extends Omit<Change, 'compactions'> {
  readonly compactions?: readonly (Compaction & { readonly installed?: Content })[]
}

/** To the thread that commits. */
export type CommitRequest = { readonly id: number } & (
  | { readonly kind: 'commit'; readonly change: PostedChange /** Bytes in it. */; readonly size: number }
  | { readonly kind: 'open'; readonly task: string }
  | { readonly kind: 'body'; readonly task: string; readonly name: string }
  | { readonly kind: 'tasks' }
  | { readonly kind: 'close' }
)

/** To the thread that reads. */
export type ReadRequest = { readonly id: number } & (
  | { readonly kind: 'read'; readonly task: string; readonly blobs: readonly BlobRow[] }
  | { readonly kind: 'merge'; readonly task: string; readonly request: MergeRequest }
  | { readonly kind: 'close' }
)

export type Reply = { readonly id: number } & ({ readonly value: unknown } | { readonly error: PostedError })

/** How a commit ended, without the class of its error. */
export type PostedResult =
  | Exclude<CommitResult, { kind: 'failed' }>
  | { readonly kind: 'failed'; readonly error: PostedError }

/** The first message of a thread. */
export type Started<T = Identity> = { readonly ready: T } | { readonly error: PostedError }

/** A task as the thread that commits gives it: its blobs are yet to be read. */
export interface OpenedListing extends Omit<OpenedTask, 'blobs' | 'batches'> {
  readonly blobs: readonly BlobRow[]
  readonly batches: readonly StoredBatch[]
}

/** What merging gave: bytes, and where they are stored if they were too many for one commit. */
export interface Merged {
  readonly bytes: Uint8Array<ArrayBuffer> | undefined
  readonly installed?: Content
}

/** A piece of a merged blob, to be stored before a commit refers to it. */
export interface PiecePosted {
  readonly kind: 'piece'
  readonly task: string
  readonly slot: string
  /** How many there will be. */
  readonly pieces: number
  /** From 0. */
  readonly index: number
  /** The number that the first piece got; 0 with the first. */
  readonly first: number
  readonly bytes: Uint8Array
}

/** From the thread that reads to the one that commits. */
export type FromReader = PiecePosted | { readonly kind: 'checkpointed'; readonly error?: PostedError }

/** From the thread that commits to the one that reads. */
export type ToReader =
  | { readonly kind: 'checkpoint' }
  | { readonly kind: 'stored'; readonly first: number }
  | { readonly kind: 'refused'; readonly error: PostedError }

/** An error on its way between threads. */
export interface PostedError {
  readonly code: ErrorCode
  readonly message: string
  readonly retriable: boolean
}

export function posted(thrown: unknown): PostedError {
  if (thrown instanceof MillraceError)
    return { code: thrown.code, message: thrown.message, retriable: thrown.retriable }
  return { code: 'INTERNAL', message: messageOf(thrown), retriable: false }
}

export function received({ code, message, retriable }: PostedError): MillraceError {
  return new MillraceError(code, message, { retriable })
}
