/** What a staged row of the sink says, as a line of JSON. */
export type RedisForm = 'json' | 'string' | 'hash' | 'sorted-set' | 'stream' | 'publish'

/** What holds for all rows of a batch. */
export interface RedisHead {
  readonly format: 'key-value-1'
  /** Absent for JSON and hashes, which say it themselves. */
  readonly as: RedisForm
  /** Whose rows these are, among all that write to a stream or channel. */
  readonly producer?: string
  readonly maxLength?: number
}

/** A row as the delivery takes it: texts are what will be stored. */
export interface RedisRow {
  readonly key: string
  /** As decimal digits when it is no safe integer. */
  readonly version: number | string
  readonly expiresAt?: number
  readonly forgetAt?: number
  readonly deleted?: true
  /** Of a string, JSON or a message. */
  readonly text?: string
  readonly hash?: Readonly<Record<string, string>>
  readonly member?: string
  readonly score?: number
}

const VALUE = ',"value":'

/** Reads a batch's lines. The text of a JSON value is taken as it stands. */
export function rowsOf(body: Uint8Array, as: RedisForm): RedisRow[] {
  const text = Buffer.from(body.buffer, body.byteOffset, body.length).toString()
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      // Quotes within a key are escaped: what looks like the field is the field.
      const at = line.indexOf(VALUE)
      if (at < 0) return JSON.parse(line) as RedisRow
      const value = line.slice(at + VALUE.length, -1)
      const row = JSON.parse(`${line.slice(0, at)}}`) as RedisRow
      return { ...row, text: as === 'string' ? (JSON.parse(value) as string) : value }
    })
}

/** The same rows for the embedded table, which keeps one value a key: a member or an entry of its own each. */
export function rowsForTable(body: Uint8Array, as: RedisForm): Uint8Array {
  if (as === 'json' || as === 'hash' || as === 'string') return body
  const lines = rowsOf(body, as).map(({ text, hash, member, score, key, version, ...life }) => {
    const own = as === 'sorted-set' ? member : version
    const value = life.deleted ? {} : { value: as === 'sorted-set' ? { member, score } : (hash ?? JSON.parse(text!)) }
    return `${JSON.stringify({ key: `${key} ${own}`, version, ...life, ...value })}\n`
  })
  return Buffer.from(lines.join(''))
}
