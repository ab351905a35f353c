import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, lstatSync, mkdirSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { type ClientRequest, request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Logger } from '../core/logger.ts'
import type { Runtime } from '../core/runtime.ts'
import { EXIT_HELD } from './warehouse-engine.ts'

export interface WarehouseOptions {
  /** The folder that holds `warehouse/`, its lock, its log and its socket. Made when it is not there. */
  readonly dataDir: string
  readonly runtime: Runtime
  readonly logger: Logger
}

/** A hold on the embedded warehouse: it runs for as long as somebody has one. */
export interface Warehouse {
  /** For the HTTP client; the host in it means nothing, the socket is the address. */
  readonly url: string
  readonly socketPath: string
  /** The id of its process, while it is known to run. */
  readonly pid: number | undefined
  /**
   * Resolves when it answers. One that was killed is started again.
   *
   * @throws MillraceError SINK_FAILED when it does not start
   */
  ready(): Promise<void>
  /** Gives the hold back. The last to do so waits for the process to have ended. */
  close(): Promise<void>
}

interface Lease {
  readonly pid: number
  readonly request: ClientRequest
  /** Resolves when the warehouse has let go of it, or was lost. */
  readonly over: Promise<void>
}

/** The engine's library has 540 MB: a start from a cold disk takes its time, milliseconds. */
const START_WITHIN = 60_000
const END_WITHIN = 15_000
/** One that dies by a signal so often at its start is not started again. */
const MOST_STARTS = 10
/** Longer paths do not fit into a socket's address. */
const LONGEST_SOCKET_PATH = 100
const LARGEST_LOG = 1_048_576

/**
 * Opens the embedded warehouse of a data directory: a ClickHouse engine in a process of its own, which speaks
 * ClickHouse's HTTP interface on a socket. It is started by the first that opens it, in whatever process, shared by the
 * others, and gone with the last. A holder that is killed loses its hold; a warehouse that is killed is started again.
 *
 * @throws MillraceError SINK_FAILED when chdb is not installed, or the warehouse does not start
 */
export async function openWarehouse({ dataDir, runtime, logger }: WarehouseOptions): Promise<Warehouse> {
  try {
    import.meta.resolve('chdb')
  } catch (cause) {
    throw new MillraceError(
      'SINK_FAILED',
      'the embedded warehouse needs the package chdb, which is not installed: npm install chdb, or set CLICKHOUSE_URL to use a ClickHouse of yours',
      { cause },
    )
  }
  mkdirSync(dataDir, { recursive: true })
  const folder = realpathSync(dataDir)
  let holding = held.get(folder)
  if (!holding) held.set(folder, (holding = new Holding(folder, runtime, logger)))
  const { socketPath } = holding
  const hold = holding
  let closed = false
  const close = async () => {
    if (closed) return
    closed = true
    await hold.leave()
  }
  hold.holders += 1
  try {
    await hold.ready()
  } catch (error) {
    await close()
    throw error
  }
  return {
    url: 'http://localhost',
    socketPath,
    get pid() {
      return hold.pid
    },
    ready: () => hold.ready(),
    close,
  }
}

/** What this process holds, by folder: one lease each, however many use it, so that a death starts one successor. */
const held = new Map<string, Holding>()

class Holding {
  readonly socketPath: string
  holders = 0
  readonly #folder: string
  readonly #runtime: Runtime
  readonly #logger: Logger
  #lease: Lease | undefined
  #taking: Promise<void> | undefined

  constructor(folder: string, runtime: Runtime, logger: Logger) {
    this.socketPath = socketOf(folder)
    this.#folder = folder
    this.#runtime = runtime
    this.#logger = logger
  }

  get pid(): number | undefined {
    return this.#lease?.pid
  }

  ready(): Promise<void> {
    if (this.#lease) return Promise.resolve()
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined
    })
    return this.#taking
  }

  async leave(): Promise<void> {
    this.holders -= 1
    if (this.holders > 0) return
    held.delete(this.#folder)
    await this.#taking?.catch(() => undefined)
    if (!this.#lease) return
    const { request, over } = this.#lease
    const waited = new AbortController()
    request.end()
    await Promise.race([over, this.#runtime.sleep(END_WITHIN, waited.signal)])
    waited.abort()
    request.destroy()
  }

  async #take(): Promise<void> {
    const taken = await lay(this.#folder, this.socketPath, this.#runtime, () => this.holders === 0)
    if (!taken) return
    this.#lease = taken
    void taken.over.then(() => {
      this.#lease = undefined
      if (this.holders === 0) return
      const fields = { dataDir: this.#folder }
      this.#logger.warn(fields, 'the embedded warehouse ended without being asked to; it is started again')
      this.ready().catch((error: unknown) => this.#logger.error(fields, messageOf(error)))
    })
  }
}

/** Takes a lease, starting the warehouse where none answers; gives up when nobody wants it any longer. */
async function lay(
  folder: string,
  socketPath: string,
  runtime: Runtime,
  unwanted: () => boolean,
): Promise<Lease | undefined> {
  const started = runtime.elapsed()
  let child: ChildProcess | undefined
  let failed: string | undefined
  let starts = 0
  let again = started
  for (let pause = 10; !unwanted(); pause = Math.min(pause * 1.5, 100)) {
    const lease = await ask(socketPath)
    if (lease) return lease
    if (failed !== undefined) throw new MillraceError('SINK_FAILED', failed)
    if (runtime.elapsed() - started > START_WITHIN)
      throw new MillraceError(
        'SINK_FAILED',
        `the embedded warehouse of ${folder} does not answer after ${START_WITHIN / 1_000} s; see ${join(folder, 'warehouse.log')}`,
        { retriable: true },
      )
    if (!child && runtime.elapsed() >= again) {
      const run = start(folder, socketPath)
      child = run
      // Another may hold the folder while it starts or ends: to start one after the other would only slow it down.
      again = runtime.elapsed() + Math.min(50 * 2 ** starts++, 1_000)
      run.once('error', (error) => {
        failed = `the embedded warehouse cannot be started: ${error.message}`
      })
      run.once('exit', (code, signal) => {
        child = undefined
        if (code !== EXIT_HELD && code !== 0 && (signal === null || starts > MOST_STARTS))
          failed = `the embedded warehouse of ${folder} ended at its start: ${lastWords(folder)}`
      })
    }
    await runtime.sleep(pause)
  }
  return undefined
}

/** It outlives its starter, is no part of its terminal's group, and writes to a log of its own. */
function start(folder: string, socketPath: string): ChildProcess {
  const file = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? './warehouse-process.ts' : './warehouse-process.js', import.meta.url),
  )
  const path = join(folder, 'warehouse.log')
  const large = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LARGEST_LOG
  const log = openSync(path, large ? 'w' : 'a')
  try {
    const child = spawn(process.execPath, [file, folder, socketPath], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env.PATH, HOME: process.env.HOME, TZ: process.env.TZ, UV_THREADPOOL_SIZE: '16' },
    })
    child.unref()
    return child
  } finally {
    closeSync(log)
  }
}

/** A lease, or nothing when none is to be had from who answers there, if anybody does. */
function ask(socketPath: string): Promise<Lease | undefined> {
  return new Promise((resolve) => {
    const request = httpRequest({ socketPath, path: '/lease', method: 'POST', agent: false })
    request.once('error', () => resolve(undefined))
    request.once('response', (response) => {
      if (response.statusCode !== 200) {
        response.resume()
        request.destroy()
        resolve(undefined)
        return
      }
      const over = new Promise<void>((done) => response.once('close', done))
      response.on('error', () => undefined).resume()
      response.socket.unref()
      request.on('error', () => undefined)
      resolve({ request, over, pid: Number(response.headers['x-process']) })
    })
    request.flushHeaders()
  })
}

/** In the data directory; where that path is too long, in a folder of the user's own below the temporary one. */
function socketOf(folder: string): string {
  const path = join(folder, 'warehouse.sock')
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH) return path
  const own = join(tmpdir(), `millrace-${process.getuid?.() ?? 0}`)
  mkdirSync(own, { recursive: true, mode: 0o700 })
  const { uid, mode } = lstatSync(own)
  if (!lstatSync(own).isDirectory() || uid !== (process.getuid?.() ?? uid) || (mode & 0o077) !== 0)
    throw new MillraceError(
      'SINK_FAILED',
      `the path of ${folder} is too long for a socket, and ${own} is not a folder of yours alone: remove it, or use a shorter --data-dir`,
    )
  return join(own, `${createHash('sha256').update(folder).digest('hex').slice(0, 16)}.sock`)
}

function lastWords(folder: string): string {
  const path = join(folder, 'warehouse.log')
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  const error = lines.findLast((line) => /Error|Exception|Cannot/.test(line))
  return `${error?.trim() ?? 'it said nothing'}; see ${path}`
}
