import { MillraceError } from './errors.ts'

/**
 * How a piece of state is written: entries of [1 byte put or delete, 8 bytes time, 4 bytes length and the key, 4 bytes
 * length and the value], after 8 bytes of how long an entry lives. The same for sets, tables and timers.
 */
export interface StateEntry {
  readonly put: boolean
  readonly key: string
  readonly time: number
  readonly value: string
}

/** Entries as one blob. */
export function encodeEntries(lives: number, entries: readonly StateEntry[]): Uint8Array {
  let size = 8
  for (const { key, value } of entries) size += 17 + (key.length + value.length) * 3
  const buffer = Buffer.allocUnsafe(size)
  let at = buffer.writeDoubleLE(lives, 0)
  for (const { put, key, time, value } of entries) {
    at = buffer.writeUInt8(put ? 1 : 0, at)
    at = buffer.writeDoubleLE(time, at)
    const keyBytes = buffer.write(key, at + 4)
    buffer.writeUInt32LE(keyBytes, at)
    at += 4 + keyBytes
    const valueBytes = buffer.write(value, at + 4)
    buffer.writeUInt32LE(valueBytes, at)
    at += 4 + valueBytes
  }
  return new Uint8Array(buffer.subarray(0, at))
}

/** How long an entry of the blob lives, milliseconds. */
export function livesOf(bytes: Uint8Array): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).readDoubleLE(0)
}

/** The entries of a blob, in the order in which they were written. @throws MillraceError STATE_DAMAGED */
export function* decodeEntries(bytes: Uint8Array): Generator<StateEntry> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  try {
    for (let at = 8; at < buffer.length; ) {
      const put = buffer.readUInt8(at) === 1
      const time = buffer.readDoubleLE(at + 1)
      const keyEnd = at + 13 + buffer.readUInt32LE(at + 9)
      const key = buffer.toString('utf8', at + 13, keyEnd)
      const valueEnd = keyEnd + 4 + buffer.readUInt32LE(keyEnd)
      const value = buffer.toString('utf8', keyEnd + 4, valueEnd)
      if (valueEnd > buffer.length) throw new RangeError('an entry ends past the blob')
      at = valueEnd
      yield { put, key, time, value }
    }
  } catch (error) {
    throw new MillraceError('STATE_DAMAGED', 'a piece of stored state cannot be read: put back a copy of the data directory', { cause: error })
  }
}
