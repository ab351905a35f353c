import { type ClientRequest, Agent as PlainAgent, request as plainRequest } from 'node:http'
import { Agent as SecureAgent, request as secureRequest } from 'node:https'
import { ClickHouseError } from '@clickhouse/client'
import { type ClickHouseAddress, credentialsOf, IDLE_SOCKET_TTL, transportOf } from './clickhouse-client.ts'

/** One INSERT: its statement, the settings that it needs, and its rows as they travel. */
export interface Insert {
  readonly query: string
  readonly settings: Readonly<Record<string, string | number>>
  readonly body: Uint8Array
  /** How the body is compressed. */
  readonly encoding?: 'zstd' | 'gzip'
  readonly signal: AbortSignal
}

/** Sends inserts over connections of its own, which it keeps while they are used. */
export interface Inserter {
  /**
   * @returns the name of the server that answered
   * @throws ClickHouseError the server's exception; otherwise the connection's error
   */
  insert(insert: Insert): Promise<string>
  close(): void
}

/**
 * The ordinary client waits a turn of the event loop before a request, and several for its streams. A turn is as long as
 * the epoch that runs in it, so that an insert took longer to be said than to be done. Here the whole request is written
 * at once.
 */
export function inserter(address: ClickHouseAddress): Inserter {
  const secure = address.url.startsWith('https:')
  const options = { keepAlive: true, timeout: IDLE_SOCKET_TTL, ...transportOf(address) } as object
  const agent = secure ? new SecureAgent(options) : new PlainAgent(options)
  const { hostname, port } = new URL(address.url)
  const place = {
    agent,
    method: 'POST',
    hostname: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port || (secure ? 443 : 80),
    ...(address.socketPath === undefined ? {} : { socketPath: address.socketPath }),
  }
  const known = { 'User-Agent': 'millrace', ...credentialsOf(address) }
  return {
    insert({ query, settings, body, encoding, signal }) {
      const search = new URLSearchParams({ query, database: address.database })
      for (const name in settings) search.set(name, String(settings[name]))
      const headers = {
        ...known,
        'Content-Length': body.length,
        ...(encoding === undefined ? {} : { 'Content-Encoding': encoding }),
      }
      const asked = { ...place, path: `/?${search}`, headers, signal }
      const request = secure ? secureRequest(asked) : plainRequest(asked)
      request.end(body)
      return answerOf(request)
    },
    close: () => agent.destroy(),
  }
}

function answerOf(request: ClientRequest): Promise<string> {
  return new Promise((resolve, reject) => {
    request.on('error', reject)
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => {
        text += part
      })
      response.on('error', reject)
      response.on('end', () => {
        const { statusCode = 0, headers } = response
        if (statusCode >= 200 && statusCode < 300 && headers['x-clickhouse-exception-code'] === undefined)
          resolve(String(headers['x-clickhouse-server-display-name'] ?? ''))
        else reject(exceptionIn(text, statusCode))
      })
    })
  })
}

/** The exception as ClickHouse writes it; what is none comes from something that stands before the server. */
function exceptionIn(text: string, status: number): Error {
  const code = /^Code: (\d+)\. DB::Exception: /.exec(text)
  if (!code) return new Error(`HTTP ${status}, and no answer of ClickHouse`)
  const type = [...text.matchAll(/\(([A-Z][A-Z_\d]+)\)/g)].at(-1)?.[1]
  return new ClickHouseError({ message: text.slice(code[0].length), code: code[1]!, ...(type ? { type } : {}) })
}
