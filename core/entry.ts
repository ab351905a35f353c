/**
 * A table's entry, in blobs, in memory and in the spill file alike. Little-endian:
 *
 *     0  fingerprint of the key   two i32, the first never 0
 *     8  time of the write        f64
 *    16  key's length             u32: units in 29 bits; bit 30: the entry says that the key was deleted; bit 31: wide
 *    20  value's length           u32: units in 29 bits; bits 29 and 30 mean something in memory only; bit 31: wide
 *    24  key, then value          a byte a unit, or, where wide, UTF-16
 *
 * The value is JSON text. Unlike UTF-8, this keeps every string apart from every other, and finds a text's length
 * without reading it.
 */
export const ENTRY_HEAD_BYTES = 24
export const WIDE = 0x8000_0000 | 0
/** In the key's length: the entry says that the key was deleted. */
export const DELETED = 0x4000_0000
/** In the value's length: a later entry of the same epoch took its place, or the entry was undone. */
export const SUPERSEDED = 0x4000_0000
/** In the value's length: nothing older of this key is stored. */
export const FRESH = 0x2000_0000
const UNITS = 0x1fff_ffff
/** Up to this length a loop is faster than a call out of JavaScript. */
const SHORT = 48

/** Bytes of a text, by its length word. */
export function textBytes(word: number): number {
  return word < 0 ? (word & UNITS) * 2 : word & UNITS
}

/** Bytes of the entry at this place. */
export function entryBytes(view: DataView, at: number): number {
  return ENTRY_HEAD_BYTES + textBytes(view.getInt32(at + 16, true)) + textBytes(view.getInt32(at + 20, true))
}

/** Writes a text and gives its length word. There must be room for two bytes a unit. */
export function writeText(bytes: Buffer, at: number, text: string): number {
  const { length } = text
  if (length > SHORT) {
    if (bytes.write(text, at, 'utf8') === length) return length
    if (!/[^\0-\xff]/.test(text)) {
      bytes.write(text, at, 'latin1')
      return length
    }
  } else {
    let seen = 0
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      seen |= unit
      bytes[at + i] = unit
    }
    if (seen < 256) return length
  }
  bytes.write(text, at, 'utf16le')
  return length | WIDE
}

/** Reads the text that begins at this byte. */
export function readText(bytes: Buffer, at: number, word: number): string {
  return bytes.toString(word < 0 ? 'utf16le' : 'latin1', at, at + textBytes(word))
}

/** Whether the text that begins at this byte is this one. */
export function sameText(bytes: Uint8Array, at: number, word: number, text: string): boolean {
  const { length } = text
  if ((word & UNITS) !== length) return false
  if (word < 0) {
    for (let i = 0; i < length; i++)
      if ((bytes[at + 2 * i]! | (bytes[at + 2 * i + 1]! << 8)) !== text.charCodeAt(i)) return false
    return true
  }
  for (let i = 0; i < length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false
  return true
}

/** Whether two entries have the same key. */
export function sameKey(a: DataView, at: number, b: DataView, bt: number): boolean {
  const word = a.getInt32(at + 16, true) & ~DELETED
  if (word !== (b.getInt32(bt + 16, true) & ~DELETED)) return false
  for (let i = ENTRY_HEAD_BYTES, end = ENTRY_HEAD_BYTES + textBytes(word); i < end; i++)
    if (a.getUint8(at + i) !== b.getUint8(bt + i)) return false
  return true
}
