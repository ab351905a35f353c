/** The thread that reads what is large and merges it, on a connection of its own. */
import { parentPort, workerData } from 'node:worker_threads'
import { crc32 } from 'node:zlib'
import { mergeBlobs } from '../core/compaction.ts'
import { MillraceError } from '../core/errors.ts'
import { systemRuntime } from '../core/runtime.ts'
import type { RedisAddress } from '../redis/address.ts'
import { redisConnection } from '../redis/connection.ts'
import { runScript } from '../redis/script.ts'
import { type Merged, posted, type Reply, type Started } from './messages.ts'
import { asking } from './redis-asking.ts'
import { readContents, type Wanted } from './redis-contents.ts'
import { fieldsOf, pieceSize, UNDER_FENCE } from './redis-layout.ts'
import { PIECE_BYTES } from './rows.ts'

export interface RedisThreadData {
  readonly address: Omit<RedisAddress, 'settings'>
  readonly place: string
  /** Milliseconds. */
  readonly patience: number
}

export type RedisThreadAsk =
  | { readonly kind: 'read'; readonly pieces: string; readonly wanted: readonly Wanted[] }
  | {
      readonly kind: 'merge'
      readonly task: string
      readonly keys: { readonly task: string; readonly pieces: string }
      readonly fence: number
      readonly wanted: readonly Wanted[]
      readonly format: string
      readonly oldest: boolean
      readonly horizon: number
      /** The first of the numbers that are free for its pieces. */
      readonly first: number
    }

type Request = { readonly id: number } & (RedisThreadAsk | { readonly kind: 'close' })

/** A command that takes longer is asked again, milliseconds: large values over a slow line take their time. */
const TIMEOUT = 60_000

const { address, place, patience } = workerData as RedisThreadData
const main = parentPort!
const connection = redisConnection({ ...address, settings: new URLSearchParams() }, { timeout: TIMEOUT })
const asked = asking(connection, systemRuntime, place, patience)

main.on('message', (request: Request) => {
  if (request.kind === 'close') {
    asked.hurry()
    connection.close()
    main.postMessage([{ id: request.id, value: undefined } satisfies Reply])
    main.close()
    return
  }
  answer(request).then(
    ({ value, transfer }) => main.postMessage([{ id: request.id, value } satisfies Reply], transfer),
    (thrown) => main.postMessage([{ id: request.id, error: posted(thrown) } satisfies Reply]),
  )
})
main.postMessage({ ready: null } satisfies Started<null>)

async function answer(request: RedisThreadAsk): Promise<{ value: unknown; transfer: ArrayBuffer[] }> {
  if (request.kind === 'read') {
    const contents = await readContents(asked, place, request.pieces, request.wanted)
    return { value: contents, transfer: contents.map(({ buffer }) => buffer) }
  }
  const merged = await merge(request)
  return { value: merged, transfer: merged.bytes ? [merged.bytes.buffer] : [] }
}

async function merge(request: Extract<RedisThreadAsk, { kind: 'merge' }>): Promise<Merged> {
  const { format, oldest, horizon, keys, wanted, first } = request
  const merged = mergeBlobs(format, await readContents(asked, place, keys.pieces, wanted), { oldest, horizon })
  if (merged === undefined) return { bytes: undefined }
  const alone = merged.byteLength === merged.buffer.byteLength && merged.buffer instanceof ArrayBuffer
  const bytes = alone ? new Uint8Array(merged.buffer as ArrayBuffer) : new Uint8Array(merged)
  if (bytes.length <= PIECE_BYTES) return { bytes }
  // Stored ahead, piece by piece, so that the commit that installs them only changes a row.
  const content = { first, pieces: Math.ceil(bytes.length / PIECE_BYTES), size: bytes.length, sum: crc32(bytes) }
  for (const [n, field] of fieldsOf(content).entries()) {
    const piece = Buffer.from(bytes.buffer, n * PIECE_BYTES, pieceSize(content, n))
    const said = await asked.told((client) =>
      runScript(client, UNDER_FENCE, [keys.task, keys.pieces], [request.fence, 'HSET', field, piece]),
    )
    if (said === 'fenced')
      throw new MillraceError('FENCED', `${request.task}: another worker has opened this task; its merge is given up`)
  }
  return { bytes, installed: content }
}
