import { MillraceError } from '../core/errors.ts'

const QUOTE = 34
const NEWLINE = 10

/** A row of CSV before it is decoded. */
export interface CsvRow {
  readonly columns: readonly string[]
  readonly delimiter: string
  readonly text: string
}

const FIELD_START = 0
const UNQUOTED = 1
const QUOTED = 2
const CLOSED = 3

/** Finds where a row ends, also when its bytes come in pieces: a line break within quotes ends no row. */
export class CsvRowEnd {
  readonly #delimiter: number
  #at = 0
  #state = FIELD_START

  constructor(delimiter: string) {
    this.#delimiter = delimiter.charCodeAt(0)
  }

  /** Begins a new row at this place of the buffer. */
  reset(start: number): void {
    this.#at = start
    this.#state = FIELD_START
  }

  /** The row's bytes were moved in the buffer, so far to the front. */
  moved(by: number): void {
    this.#at -= by
  }

  /** The place of the row's line break, or -1 when it is not in the buffer up to `filled`; asked again, it goes on. */
  find(buffer: Buffer, filled: number): number {
    const delimiter = this.#delimiter
    let at = this.#at
    let state = this.#state
    for (; at < filled; at++) {
      const byte = buffer[at]
      if (state === QUOTED) {
        if (byte === QUOTE) state = CLOSED
      } else if (byte === NEWLINE) {
        this.#at = at
        return at
      } else if (byte === delimiter) {
        state = FIELD_START
      } else if (byte === QUOTE && state !== UNQUOTED) {
        // After a closing quote it was a doubled one, and the field goes on.
        state = QUOTED
      } else {
        state = UNQUOTED
      }
    }
    this.#at = at
    this.#state = state
    return -1
  }
}

/**
 * The fields of one row, as RFC 4180 has them. An unquoted field may hold quotes, but not begin with one.
 *
 * @throws MillraceError UNDECODABLE when a quoted field does not end, or is followed by anything but the delimiter
 */
export function csvFields(text: string, delimiter: string): string[] {
  const fields: string[] = []
  const end = text.endsWith('\r') ? text.length - 1 : text.length
  for (let at = 0; ; at++) {
    if (text.charCodeAt(at) !== QUOTE || at >= end) {
      const stop = text.indexOf(delimiter, at)
      if (stop === -1 || stop >= end) {
        fields.push(text.slice(at, end))
        return fields
      }
      fields.push(text.slice(at, stop))
      at = stop
    } else {
      const from = at + 1
      let close = text.indexOf('"', from)
      while (close !== -1 && text.charCodeAt(close + 1) === QUOTE) close = text.indexOf('"', close + 2)
      if (close === -1)
        throw new MillraceError('UNDECODABLE', `field ${fields.length + 1} opens a quote that does not close`)
      fields.push(text.slice(from, close).replaceAll('""', '"'))
      at = close + 1
      if (at >= end) return fields
      if (text[at] !== delimiter) {
        throw new MillraceError('UNDECODABLE', `field ${fields.length} goes on after its closing quote`)
      }
    }
  }
}

/**
 * The object of a row: its fields under the names of the header row, all of them texts.
 *
 * @throws MillraceError UNDECODABLE when the row is no CSV, or has more or fewer fields than the header
 */
export function csvObject({ columns, delimiter, text }: CsvRow): Record<string, string> {
  const fields = csvFields(text, delimiter)
  if (fields.length !== columns.length) {
    throw new MillraceError('UNDECODABLE', `it has ${fields.length} fields, and the header has ${columns.length}`)
  }
  const object: Record<string, string> = {}
  for (let i = 0; i < fields.length; i++) object[columns[i]!] = fields[i]!
  return object
}
