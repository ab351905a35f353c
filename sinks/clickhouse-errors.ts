import { ClickHouseError } from '@clickhouse/client'

/**
 * Exceptions that say that a row's text or types are wrong, so that nothing of the insert was applied and none of it
 * ever will be (engine rule 21). Any other says nothing of what happened.
 */
export const REJECTED: ReadonlySet<string> = new Set([
  'CANNOT_PARSE_TEXT',
  'CANNOT_PARSE_ESCAPE_SEQUENCE',
  'CANNOT_PARSE_QUOTED_STRING',
  'CANNOT_PARSE_INPUT_ASSERTION_FAILED',
  'CANNOT_PARSE_DATE',
  'CANNOT_PARSE_DATETIME',
  'CANNOT_PARSE_NUMBER',
  'CANNOT_PARSE_UUID',
  'CANNOT_PARSE_BOOL',
  'CANNOT_PARSE_IPV4',
  'CANNOT_PARSE_IPV6',
  'CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING',
  'CANNOT_READ_ARRAY_FROM_TEXT',
  'CANNOT_READ_MAP_FROM_TEXT',
  'CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN',
  'TYPE_MISMATCH',
  'CANNOT_CONVERT_TYPE',
  'ARGUMENT_OUT_OF_BOUND',
  'VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE',
  'DECIMAL_OVERFLOW',
  'TOO_LARGE_STRING_SIZE',
  'UNKNOWN_ELEMENT_OF_ENUM',
  'INCORRECT_DATA',
  'VIOLATED_CONSTRAINT',
])

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
  /** The place in the insert of the row that the exception names, from 0. */
  readonly row?: number
}

const HINTS: Readonly<Record<string, string>> = {
  UNKNOWN_TABLE: 'the table is not there any more',
  NO_SUCH_COLUMN_IN_TABLE: 'the table has lost a column since the batch was staged: put it back',
  TOO_MANY_PARTS: 'the table has too many parts: inserts come faster than it merges',
  TABLE_IS_READ_ONLY: 'the table is read-only',
  AUTHENTICATION_FAILED: 'check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD',
  ACCESS_DENIED: 'the user needs INSERT and SELECT on the table',
  NOT_ENOUGH_SPACE: 'the disk is full',
  MEMORY_LIMIT_EXCEEDED: 'the server is out of memory',
}

/** What an error of the client says of the request's outcome. */
export function failureOf(error: unknown): Failure {
  if (error instanceof ClickHouseError) {
    const name = error.type ?? 'an exception without a name'
    const column = /while reading the value of key (\w+)/.exec(error.message)?.[1]
    const row = /at row (\d+)/.exec(error.message)?.[1]
    const hint = HINTS[name]
    const reason = `${name} (${error.code})${column ? ` in column ${column}` : ''}${hint ? `: ${hint}` : ''}`
    return {
      kind: REJECTED.has(name) ? 'rejected' : 'unknown',
      reason,
      ...(row === undefined ? {} : { row: Number(row) - 1 }),
    }
  }
  const code = (error as { code?: unknown } | undefined)?.code
  const text = error instanceof Error ? error.message.slice(0, 200) : 'the request failed'
  if (typeof code === 'string' && NOT_REACHED.has(code)) return { kind: 'notSent', reason: `not reached: ${code}` }
  return { kind: 'unknown', reason: typeof code === 'string' ? `${code}: ${text}` : text }
}
