import type { Change } from '../core/store.ts'
import type { PostedChange } from './messages.ts'
import type { Content } from './rows.ts'

/**
 * The change with all of its bytes copied into one buffer, which can go to another thread without another copy.
 *
 * @param installed where merged bytes that were given out are stored already: these are not copied
 */
export function pack(
  change: Change,
  installed: WeakMap<Uint8Array, Content>,
): { packed: PostedChange; buffer: ArrayBuffer } {
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
