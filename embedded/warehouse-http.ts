import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { compose, Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import type { Engine, Statement } from './warehouse-engine.ts'

/** Query parameters of ClickHouse's HTTP interface that are no settings of a statement. */
const NO_SETTING = new Set([
  'query',
  'query_id',
  'database',
  'default_format',
  'session_id',
  'session_timeout',
  'session_check',
  'user',
  'password',
  'role',
  'quota_key',
  'wait_end_of_query',
  'buffer_size',
  'compress',
  'decompress',
  'enable_http_compression',
  'http_zlib_compression_level',
  'send_progress_in_http_headers',
  'http_headers_progress_interval_ms',
  'stacktrace',
  'cancel_http_readonly_queries_on_client_close',
  'add_http_cors_header',
  'client_protocol_version',
])
/** The engine says that it must be started again: it is of no use any more. */
const ABORTED = 236
const INFLATERS: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  deflate: createInflate,
  zstd: createZstdDecompress,
}

/**
 * ClickHouse's HTTP interface over an engine, as far as its ordinary client uses it: statements as `POST /` (or
 * `GET /?query=`), settings and parameters in the address, exceptions as ClickHouse writes them, `GET /ping`.
 *
 * @param broken called when the engine has said that it cannot go on
 */
export function clickHouseHttp(engine: Engine, broken: () => void): RequestListener {
  return (request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost')
    if (url.pathname === '/ping') {
      response.end('Ok.\n')
      return
    }
    answer(engine, url, request, response).catch((error: unknown) => {
      const { code, status, text } = asException(error)
      if (response.headersSent) response.destroy()
      else {
        response.writeHead(status, {
          'X-ClickHouse-Exception-Code': String(code),
          'Content-Type': 'text/plain; charset=UTF-8',
        })
        response.end(text)
      }
      if (code === ABORTED) broken()
    })
  }
}

async function answer(engine: Engine, url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(request)
  const statement = statementOf(url.searchParams, body, request.method === 'GET')
  const { summary, format, body: result } = await engine.run(statement)
  response.writeHead(200, {
    'Content-Type': format.startsWith('JSON') ? 'application/json; charset=UTF-8' : 'text/plain; charset=UTF-8',
    'X-ClickHouse-Server-Display-Name': 'embedded',
    'X-ClickHouse-Query-Id': url.searchParams.get('query_id') ?? '',
    'X-ClickHouse-Format': format,
    'X-ClickHouse-Summary': JSON.stringify({
      read_rows: String(summary.readRows),
      read_bytes: String(summary.readBytes),
      written_rows: String(summary.writtenRows),
      written_bytes: String(summary.writtenBytes),
      elapsed_ns: String(Math.round(summary.seconds * 1e9)),
    }),
  })
  if (result instanceof Uint8Array) response.end(result)
  else await pipeline(Readable.from(result), response)
}

function statementOf(search: URLSearchParams, body: Buffer, readonly: boolean): Statement {
  const settings: Record<string, string> = readonly ? { readonly: '2' } : {}
  const params: Record<string, string> = {}
  for (const [name, value] of search) {
    if (name.startsWith('param_')) params[name.slice(6)] = value
    else if (!NO_SETTING.has(name) && /^\w+$/.test(name)) settings[name] = value
  }
  const sql = search.get('query')
  return {
    sql: sql ?? body.toString(),
    ...(sql === null ? {} : { data: body }),
    database: search.get('database') || 'default',
    settings,
    params,
    format: search.get('default_format') ?? 'TabSeparated',
  }
}

/** The request's body in one piece; copied once. */
async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const encoding = request.headers['content-encoding']
  const inflate = encoding === undefined || encoding === 'identity' ? undefined : INFLATERS[encoding]
  if (encoding !== undefined && encoding !== 'identity' && !inflate)
    throw new Error(`Code: 432. DB::Exception: Unknown compression method: ${encoding}. (UNKNOWN_COMPRESSION_METHOD)`)
  const parts: Buffer[] = []
  for await (const part of inflate ? compose(request, inflate()) : request) parts.push(part as Buffer)
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

/** The engine's error as ClickHouse answers it over HTTP; it says its code twice when it comes from an insert. */
function asException(error: unknown): { code: number; status: number; text: string } {
  const message = error instanceof Error ? error.message : String(error)
  const code = Number(/Code: (\d+)\./.exec(message)?.[1] ?? 1002)
  const text = message.replace(/^(Code: \d+\. DB::Exception: )\1/, '$1')
  const known = /^Code: \d+/.test(text) ? text : `Code: ${code}. DB::Exception: ${text} (UNKNOWN_EXCEPTION)`
  const status = code === 60 || code === 81 ? 404 : code === 1002 || code === ABORTED || code === 241 ? 500 : 400
  return { code, status, text: `${known}\n` }
}
