import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Metrics } from '../core/metrics.ts'
import type { WorkerStatus } from '../core/status.ts'
import { type Health, liveness, readiness, wellBeing } from './health.ts'

/** A server of `/metrics`, and of what probes ask for: `/live`, `/ready` and `/health`. */
export interface MetricsServer {
  /** Where the metrics are, as in `http://127.0.0.1:9464/metrics`. */
  readonly url: string
  close(): Promise<void>
}

const EXISTING = 'there are /metrics, /live, /ready and /health'

/** Milliseconds between looks at whether the worker gets on. */
const LOOK = 5_000

/**
 * Serves the metrics as Prometheus reads them, and three answers to probes, each 200 or 503 with the reason as JSON:
 * `/live` (503: a start anew would help), `/ready` (503: it starts, loads state, drains or has ended) and `/health` (503: it
 * starts or has failed, or a sink needs a person).
 *
 * @param listen `PORT`, or `HOST:PORT`; the host is this machine alone unless it is named, and port 0 takes a free one
 * @param status the worker's; undefined before it has started
 * @throws MillraceError BAD_OPTION, PORT_IN_USE
 */
export async function serveMetrics(
  listen: string,
  metrics: Metrics,
  status: () => WorkerStatus | undefined,
): Promise<MetricsServer> {
  const { host, port } = addressOf(listen)
  const alive = liveness()
  const probes: Readonly<Record<string, () => Health>> = {
    '/live': () => alive(status(), performance.now()),
    '/ready': () => readiness(status()),
    '/health': () => wellBeing(status()),
  }
  const looking = setInterval(probes['/live']!, LOOK).unref()
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname
    try {
      if (path === '/metrics') {
        const text = await metrics.registry.metrics()
        response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text)
      } else if (Object.hasOwn(probes, path)) {
        const { ok, ...body } = probes[path]!()
        response.writeHead(ok ? 200 : 503, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`)
      } else response.writeHead(404, { 'content-type': 'text/plain' }).end(`${EXISTING}\n`)
    } catch (error) {
      response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(error)}\n`)
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(notListening(listen, error)))
    server.listen(port, host, resolve)
  })
  const { address, family, port: taken } = server.address() as AddressInfo
  // It serves for as long as something else keeps the process: it is no reason to stay.
  server.unref()
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${taken}/metrics`,
    async close() {
      clearInterval(looking)
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

function addressOf(listen: string): { host: string; port: number } {
  const [, host = '127.0.0.1', digits] = /^(?:\[?([^\]]+?)\]?:)?(\d{1,5})$/.exec(listen) ?? []
  const port = Number(digits)
  if (digits !== undefined && port < 65_536) return { host, port }
  throw new MillraceError('BAD_OPTION', `--metrics must be a port from 0 to 65535, or HOST:PORT, got ${shown(listen)}`)
}

function notListening(listen: string, error: NodeJS.ErrnoException): MillraceError {
  if (error.code === 'EADDRINUSE') {
    return new MillraceError(
      'PORT_IN_USE',
      `--metrics ${listen}: another program has this port; choose another, or 0 for any that is free`,
      { cause: error },
    )
  }
  const next =
    error.code === 'EACCES' ? 'ports below 1024 need a right of their own; choose a higher one' : 'choose another'
  return new MillraceError('BAD_OPTION', `--metrics ${listen}: cannot be listened on (${messageOf(error)}); ${next}`, {
    cause: error,
  })
}
