import { ClickHouseError } from '@clickhouse/client'

/**
 * Exceptions that say that a row's text or types are wrong, so that nothing of the insert was applied and none of it
 * ever will be (engine rule 21). Any other says nothing of what happened. By number: names are looked for in a text that
 * quotes the rows, and may be theirs.
 */
const REJECTED: ReadonlyMap<number, string> = new Map([
  [6, 'CANNOT_PARSE_TEXT'],
  [25, 'CANNOT_PARSE_ESCAPE_SEQUENCE'],
  [26, 'CANNOT_PARSE_QUOTED_STRING'],
  [27, 'CANNOT_PARSE_INPUT_ASSERTION_FAILED'],
  [38, 'CANNOT_PARSE_DATE'],
  [41, 'CANNOT_PARSE_DATETIME'],
  [53, 'TYPE_MISMATCH'],
  [69, 'ARGUMENT_OUT_OF_BOUND'],
  [70, 'CANNOT_CONVERT_TYPE'],
  [72, 'CANNOT_PARSE_NUMBER'],
  [117, 'INCORRECT_DATA'],
  [130, 'CANNOT_READ_ARRAY_FROM_TEXT'],
  [131, 'TOO_LARGE_STRING_SIZE'],
  [321, 'VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE'],
  [349, 'CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN'],
  [376, 'CANNOT_PARSE_UUID'],
  [407, 'DECIMAL_OVERFLOW'],
  [441, 'CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING'],
  [467, 'CANNOT_PARSE_BOOL'],
  [469, 'VIOLATED_CONSTRAINT'],
  [563, 'CANNOT_READ_MAP_FROM_TEXT'],
  [675, 'CANNOT_PARSE_IPV4'],
  [676, 'CANNOT_PARSE_IPV6'],
  [691, 'UNKNOWN_ELEMENT_OF_ENUM'],
])
const VIOLATED_CONSTRAINT = 469

/** The address is not there, or nobody listens: nothing can have been sent. */
const NOT_REACHED: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
])

export interface Failure {
  readonly kind: 'notSent' | 'unknown' | 'rejected'
  /** The exception's name, and never the text that it quotes from the rows. */
  readonly reason: string
  /** The place in the insert of the row that broke a constraint, from 0. */
  readonly row?: number
}

const HINTS: ReadonlyMap<number, string> = new Map([
  [16, 'the table has lost a column since the batch was staged: put it back'],
  [60, 'the table is not there any more'],
  [241, 'the server is out of memory'],
  [242, 'the table is read-only'],
  [243, 'the disk is full'],
  [252, 'the table has too many parts: inserts come faster than it merges'],
  [497, 'the user needs INSERT and SELECT on the table'],
  [516, 'check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD'],
])

/** What an error of the client says of the request's outcome. */
export function failureOf(error: unknown): Failure {
  if (error instanceof ClickHouseError) {
    const code = Number(error.code)
    const name = REJECTED.get(code) ?? error.type ?? 'an exception without a name'
    const column = /\(while reading the value of key (\w+)\)/.exec(error.message)?.[1]
    const row =
      code === VIOLATED_CONSTRAINT ? /^Constraint .*? is violated at row (\d+)\./.exec(error.message)?.[1] : undefined
    const hint = HINTS.get(code)
    return {
      kind: REJECTED.has(code) ? 'rejected' : 'unknown',
      reason: `${name} (${error.code})${column ? ` in column ${column}` : ''}${hint ? `: ${hint}` : ''}`,
      ...(row === undefined ? {} : { row: Number(row) - 1 }),
    }
  }
  const code = (error as { code?: unknown } | undefined)?.code
  const text = error instanceof Error ? error.message.slice(0, 200) : 'the request failed'
  if (typeof code === 'string' && NOT_REACHED.has(code)) return { kind: 'notSent', reason: `not reached: ${code}` }
  return { kind: 'unknown', reason: typeof code === 'string' ? `${code}: ${text}` : text }
}
