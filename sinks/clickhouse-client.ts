import { Agent } from 'node:http'
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client'
import { MillraceError } from '../core/errors.ts'

/** Where a ClickHouse is, and who asks. */
export interface ClickHouseAddress {
  /** `http(s)://host:port`, without credentials. */
  readonly url: string
  readonly database: string
  readonly username?: string
  readonly password?: string
  /** The socket of the embedded warehouse; `url` then says nothing. */
  readonly socketPath?: string
}

/** What a ClickHouse is asked for, and by whom, where neither options nor environment say: the embedded one. */
export interface ClickHouseEnvironment {
  readonly url?: string | undefined
  readonly database?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
}

/** An answer that takes longer is of unknown outcome, milliseconds. */
const ANSWER_WITHIN = 120_000
/** ClickHouse closes a connection that was idle for 3 s in old versions; one that is closed while we write is an unknown outcome. */
const IDLE_SOCKET_TTL = 2_000

/**
 * The address from `CLICKHOUSE_URL`, `CLICKHOUSE_USER`, `CLICKHOUSE_PASSWORD` and `CLICKHOUSE_DATABASE`, or from what
 * the options say instead; undefined where none is named.
 *
 * @throws MillraceError BAD_OPTION when the address is none
 */
export function clickHouseAddress({ url, database, env }: ClickHouseEnvironment): ClickHouseAddress | undefined {
  const given = url ?? env.CLICKHOUSE_URL
  if (given === undefined || given === '') return undefined
  const parsed = URL.canParse(given) ? new URL(given) : undefined
  if (!parsed || !/^https?:$/.test(parsed.protocol))
    throw new MillraceError(
      'BAD_OPTION',
      `${url === undefined ? 'CLICKHOUSE_URL' : 'clickhouse: url'} must be an address such as 'https://host:8443', got something else`,
    )
  const username = env.CLICKHOUSE_USER || decodeURIComponent(parsed.username)
  const password = env.CLICKHOUSE_PASSWORD || decodeURIComponent(parsed.password)
  return {
    url: `${parsed.protocol}//${parsed.host}`,
    database: database ?? (env.CLICKHOUSE_DATABASE || parsed.pathname.slice(1) || 'default'),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
  }
}

/** The ordinary client on an address: over the network, or over the embedded warehouse's socket. It logs nothing. */
export function connectClickHouse({
  url,
  database,
  username,
  password,
  socketPath,
}: ClickHouseAddress): ClickHouseClient {
  // Node's types leave out that an agent hands its options on to each connection.
  const agent = socketPath === undefined ? undefined : new Agent({ keepAlive: true, socketPath } as object)
  return createClient({
    url,
    database,
    application: 'millrace',
    request_timeout: ANSWER_WITHIN,
    keep_alive: { enabled: true, idle_socket_ttl: IDLE_SOCKET_TTL },
    log: { level: ClickHouseLogLevel.OFF },
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(agent ? { http_agent: agent } : {}),
  })
}

/** A name as it stands in a statement. */
export function quoted(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``
}

/** A text as it stands in a statement. */
export function literal(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
