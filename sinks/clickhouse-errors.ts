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
/** Of a row, found where it is written: on a shard, when others may have taken theirs. */
export const VIOLATED_CONSTRAINT = 469
const SIGNER =
  'its certificate is signed by nobody who is trusted here: name the file of its authority in CLICKHOUSE_CA_FILE or tls.caFile'

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

/** No connection was made, because one side does not trust the other: what OpenSSL and Node call it, and what to do. */
const NOT_TRUSTED: ReadonlyMap<string, string> = new Map([
  ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'].map(
    (code) => [code, SIGNER] as const,
  ),
  ...['UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'].map((code) => [code, SIGNER] as const),
  ['CERT_HAS_EXPIRED', 'its certificate is no longer valid'],
  ['CERT_NOT_YET_VALID', 'its certificate is not valid yet: compare the clocks'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'its certificate is for another name: use that one, or say it in tls.serverName'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'it does not speak TLS here: HTTPS has a port of its own, 8443 as a rule'],
])

export interface Failure {
  readonly kind: 'notSent' | 'unknown' | 'rejected'
  /** The exception's name, and never the text that it quotes from the rows. */
  readonly reason: string
  /** The place in the insert of the row that broke a constraint, from 0. */
  readonly row?: number
  /** The exception's number, where the server has answered with one. */
  readonly code?: number
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
      code,
      ...(row === undefined ? {} : { row: Number(row) - 1 }),
    }
  }
  const code = (error as { code?: unknown } | undefined)?.code
  const text = error instanceof Error ? error.message.slice(0, 200) : 'the request failed'
  if (typeof code === 'string' && NOT_REACHED.has(code)) return { kind: 'notSent', reason: `not reached: ${code}` }
  const distrust = typeof code === 'string' ? NOT_TRUSTED.get(code) : undefined
  if (distrust !== undefined) return { kind: 'notSent', reason: `not reached: ${distrust} (${code})` }
  return { kind: 'unknown', reason: typeof code === 'string' ? `${code}: ${text}` : text }
}
