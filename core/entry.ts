/**
 * A table's entry, in blobs, in memory and in the spill file alike. Little-endian:
 *
 *     0  fingerprint of the key   two i32, the first never 0
 *     8  time of the write        f64
 *    16  key's length             u32: units in 29 bits; bit 30: the entry says that the key was deleted; bit 31: wide
 *    20  value's length           u32: units in 29 bits; bit 31: wide
 *    24  key, then value          a byte a unit, or, where wide, UTF-16
 *
 * The value is JSON text. Unlike UTF-8, this keeps every string apart from every other, and finds a text's length
 * without reading it.
 */
export const ENTRY_HEAD_BYTES = 24
export const WIDE = 0x8000_0000 | 0
/** In the key's length: the entry says that the key was deleted. */
export const DELETED = 0x4000_0000
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

/** Writes an entry, and gives where the next one begins. There must be room for two bytes a unit. */
export function writeEntry(
  bytes: Buffer,
  view: DataView,
  at: number,
  f0: number,
  f1: number,
  time: number,
  key: string,
  value: string,
  flags: number,
): number {
  const keyWord = writeText(bytes, at + ENTRY_HEAD_BYTES, key)
  const valueAt = at + ENTRY_HEAD_BYTES + (keyWord < 0 ? key.length * 2 : key.length)
  const valueWord = writeText(bytes, valueAt, value)
  view.setInt32(at, f0, true)
  view.setInt32(at + 4, f1, true)
  view.setFloat64(at + 8, time, true)
  view.setInt32(at + 16, keyWord | flags, true)
  view.setInt32(at + 20, valueWord, true)
  return valueAt + (valueWord < 0 ? value.length * 2 : value.length)
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
