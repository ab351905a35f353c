/**
 * The embedded warehouse's process: `node warehouse-process.ts DATA_DIR SOCKET`. It owns `DATA_DIR/warehouse`, answers
 * on the socket, and ends when nobody holds a lease any more.
 *
 * A lease is a `POST /lease` whose body stays open. Its end gives it back; a connection that breaks, as that of a
 * process that was killed does, loses it. What keeps two of these processes from one folder is a lock that dies with
 * the process that holds it, so that nothing stale is ever left.
 */
import { chmodSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { EXIT_HELD, openEngine } from './warehouse-engine.ts'
import { clickHouseHttp } from './warehouse-http.ts'

/** After a start without a lease, and after a lease was lost rather than given back, milliseconds. */
const LINGER_AT_START = 5_000
const LINGER = 1_000
/** How long the end waits for requests that are under way, milliseconds. */
const PATIENCE = 5_000
const WATCH = 1_000

const [dataDir, socketPath] = process.argv.slice(2)
if (dataDir === undefined || socketPath === undefined) throw new Error('usage: warehouse-process DATA_DIR SOCKET')
mkdirSync(join(dataDir, 'warehouse'), { recursive: true })

const lock = new DatabaseSync(join(dataDir, 'warehouse.lock'), { timeout: 0 })
try {
  lock.exec('PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
} catch {
  process.exit(EXIT_HELD)
}

const engine = await openEngine(join(dataDir, 'warehouse'))
const answer = clickHouseHttp(engine, () => process.exit(1))
const leases = new Set<object>()
let requests = 0
let ending = false
let linger: NodeJS.Timeout | undefined
let server: Server
let inode: number

const listener: RequestListener = (request, response) => {
  if (request.url !== '/lease') {
    requests += 1
    response.once('close', () => {
      requests -= 1
      if (leases.size === 0) endAfter(LINGER)
    })
    answer(request, response)
    return
  }
  if (ending) {
    response.writeHead(503).end()
    return
  }
  clearTimeout(linger)
  leases.add(response)
  const leave = (wait: number) => {
    if (!leases.delete(response) || leases.size > 0) return
    if (wait > 0) endAfter(wait)
    else void end()
  }
  request.resume().once('end', () => {
    leave(0)
    if (leases.size > 0) response.end()
  })
  response.once('close', () => leave(LINGER))
  response.writeHead(200, { 'X-Process': String(process.pid) })
  response.flushHeaders()
}

function endAfter(ms: number): void {
  clearTimeout(linger)
  linger = setTimeout(() => {
    if (leases.size === 0 && requests === 0) void end()
  }, ms)
}

async function listen(): Promise<void> {
  rmSync(socketPath!, { force: true })
  server = createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 }, listener)
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(socketPath, resolve))
  chmodSync(socketPath!, 0o600)
  inode = statSync(socketPath!).ino
}

/** A socket that somebody has removed, or put another in the place of, is made again. */
async function watch(): Promise<void> {
  if (ending || statSync(socketPath!, { throwIfNoEntry: false })?.ino === inode) return
  server.close()
  await listen()
}

async function end(): Promise<void> {
  if (ending) return
  ending = true
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), PATIENCE).unref()
  server.close()
  server.closeIdleConnections()
  while (requests > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  await engine.close()
  process.exit(0)
}

// The lock is given back when it is collected as garbage, too: this keeps it.
process.on('exit', () => lock.close())
process.on('SIGTERM', () => void end())
process.on('SIGINT', () => void end())
await listen()
setInterval(() => void watch().catch(() => process.exit(1)), WATCH)
endAfter(LINGER_AT_START)
