import { readFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { Agent as SecureAgent } from 'node:https'
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client'
import { MillraceError } from '../core/errors.ts'

/** Files in PEM form that prove who a server is, and who we are. */
export interface ClickHouseTls {
  /** The authorities that may vouch for the server. @default CLICKHOUSE_CA_FILE, else those that Node trusts */
  caFile?: string
  /** Our certificate, for servers that ask for one. @default CLICKHOUSE_CERT_FILE */
  certFile?: string
  /** Its key. @default CLICKHOUSE_KEY_FILE */
  keyFile?: string
  /** The name that the server's certificate must be for. @default the host of the address */
  serverName?: string
}

/** Where a ClickHouse is, and who asks. */
export interface ClickHouseAddress {
  /** `http(s)://host:port`, without credentials. */
  readonly url: string
  readonly database: string
  readonly username?: string
  readonly password?: string
  /** The socket of the embedded warehouse; `url` then says nothing. */
  readonly socketPath?: string
  readonly tls?: Readonly<ClickHouseTls>
  /** Sent with every request, for what stands before the server. */
  readonly headers?: Readonly<Record<string, string>>
}

/** What a ClickHouse is asked for, and by whom, where neither options nor environment say: the embedded one. */
export interface ClickHouseEnvironment {
  readonly url?: string | undefined
  readonly database?: string | undefined
  readonly tls?: Readonly<ClickHouseTls> | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly env: Readonly<Record<string, string | undefined>>
}

/** An answer that takes longer is of unknown outcome, milliseconds. */
const ANSWER_WITHIN = 120_000
/** ClickHouse closes a connection that was idle for 3 s in old versions; one that is closed while we write is an unknown outcome. */
export const IDLE_SOCKET_TTL = 2_000

/**
 * The address from `CLICKHOUSE_URL`, `CLICKHOUSE_USER`, `CLICKHOUSE_PASSWORD`, `CLICKHOUSE_DATABASE` and the
 * `CLICKHOUSE_…_FILE`s, or from what the options say instead; undefined where none is named.
 *
 * @throws MillraceError BAD_OPTION when the address is none
 */
export function clickHouseAddress(asked: ClickHouseEnvironment): ClickHouseAddress | undefined {
  const { url, database, headers, env } = asked
  const given = url ?? env.CLICKHOUSE_URL
  if (given === undefined || given === '') return undefined
  const parsed = URL.canParse(given) ? new URL(given) : undefined
  const username = env.CLICKHOUSE_USER || decoded(parsed?.username)
  const password = env.CLICKHOUSE_PASSWORD || decoded(parsed?.password)
  if (!parsed || !/^https?:$/.test(parsed.protocol) || username === undefined || password === undefined)
    throw new MillraceError(
      'BAD_OPTION',
      `${url === undefined ? 'CLICKHOUSE_URL' : 'clickhouse: url'} must be an address such as 'https://host:8443', got something else`,
    )
  const tls = tlsOf(asked)
  if (tls && parsed.protocol === 'http:')
    throw new MillraceError(
      'BAD_OPTION',
      `clickhouse: certificates are given and the address is no https://: give the server's port for HTTPS, which is 8443 as a rule`,
    )
  return {
    url: `${parsed.protocol}//${parsed.host}`,
    database: database ?? (env.CLICKHOUSE_DATABASE || parsed.pathname.slice(1) || 'default'),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(tls ? { tls } : {}),
    ...(headers ? { headers } : {}),
  }
}

function tlsOf({ tls = {}, env }: ClickHouseEnvironment): ClickHouseTls | undefined {
  const files = {
    caFile: tls.caFile ?? (env.CLICKHOUSE_CA_FILE || undefined),
    certFile: tls.certFile ?? (env.CLICKHOUSE_CERT_FILE || undefined),
    keyFile: tls.keyFile ?? (env.CLICKHOUSE_KEY_FILE || undefined),
    serverName: tls.serverName,
  }
  if ((files.certFile === undefined) !== (files.keyFile === undefined))
    throw new MillraceError(
      'BAD_OPTION',
      'clickhouse: a certificate needs its key: give certFile and keyFile, or neither',
    )
  const given = Object.entries(files).filter(([, value]) => value !== undefined)
  return given.length === 0 ? undefined : Object.fromEntries(given)
}

/** A part of an address as it is meant; undefined when its percent signs are no escapes. */
function decoded(part = ''): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}

/**
 * The ordinary client on an address: over the network, or over the embedded warehouse's socket. It logs nothing. A
 * certificate without a password is who we are (ClickHouse's `IDENTIFIED WITH ssl_certificate`); beside a password it
 * is the connection's alone, and ClickHouse must not be told of it.
 *
 * @throws MillraceError SINK_FAILED when a certificate cannot be read
 */
export function connectClickHouse(address: ClickHouseAddress): ClickHouseClient {
  const { url, database, username, password, headers } = address
  const transport = transportOf(address)
  const agent = transport && (url.startsWith('https:') ? SecureAgent : Agent)
  return createClient({
    url,
    database,
    application: 'millrace',
    request_timeout: ANSWER_WITHIN,
    keep_alive: { enabled: true, idle_socket_ttl: IDLE_SOCKET_TTL, eagerly_destroy_stale_sockets: true },
    log: { level: ClickHouseLogLevel.OFF },
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    // Node's types leave out that an agent hands its options on to each connection.
    ...(agent ? { http_agent: new agent({ keepAlive: true, ...transport } as object) } : {}),
    ...(byCertificate(address) ? { set_basic_auth_header: false, http_headers: credentialsOf(address) } : {}),
    ...(headers && !byCertificate(address) ? { http_headers: headers } : {}),
  })
}

/** The headers that say who asks, with those that were given. */
export function credentialsOf(address: ClickHouseAddress): Record<string, string> {
  const { username = 'default', password = '', headers } = address
  const who: Record<string, string> = byCertificate(address)
    ? { 'X-ClickHouse-User': username, 'X-ClickHouse-SSL-Certificate-Auth': 'on' }
    : { Authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
  return { ...who, ...headers }
}

function byCertificate({ tls, password }: ClickHouseAddress): boolean {
  return tls?.certFile !== undefined && password === undefined
}

/** What an agent needs to know of the way, beside host and port; undefined where there is nothing. */
export function transportOf({ url, socketPath, tls }: ClickHouseAddress): object | undefined {
  if (socketPath !== undefined) return { socketPath }
  if (!tls || !url.startsWith('https:')) return undefined
  const { caFile, certFile, keyFile, serverName } = tls
  return {
    ...(caFile === undefined ? {} : { ca: contentOf(caFile) }),
    ...(certFile === undefined ? {} : { cert: contentOf(certFile) }),
    ...(keyFile === undefined ? {} : { key: contentOf(keyFile) }),
    ...(serverName === undefined ? {} : { servername: serverName }),
  }
}

function contentOf(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    throw new MillraceError('SINK_FAILED', `clickhouse: the file ${path} cannot be read (${code})`, { cause })
  }
}

/** A name as it stands in a statement. */
export function quoted(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``
}

/** A text as it stands in a statement. */
export function literal(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** The rows that a statement gives. */
export async function rowsOf<R>(client: ClickHouseClient, query: string): Promise<readonly R[]> {
  const result = await client.query({ query, format: 'JSONEachRow' })
  return result.json<R>()
}
