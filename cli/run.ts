import { mkdirSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { pino } from 'pino'
import { MillraceError, messageOf } from '../core/errors.ts'
import { createMetrics, type Metrics } from '../core/metrics.ts'
import { planOf } from '../core/pipeline.ts'
import { systemRuntime } from '../core/runtime.ts'
import type { Source } from '../core/source.ts'
import type { WorkerStatus } from '../core/status.ts'
import { startWorker } from '../core/worker.ts'
import { fileSource } from '../sources/file.ts'
import { sqliteStore } from '../state/sqlite.ts'
import { loadPipeline } from './load.ts'

export interface RunOptions {
  data: string
  input: readonly string[]
  untilEnd?: boolean
  reopen?: boolean
  requireReal?: boolean
  standIn: readonly string[]
  live?: boolean
  json?: boolean
  metrics?: string
  dropState: readonly string[]
  renameState: readonly string[]
  toDeadLetters?: boolean
  acceptOlderState?: boolean
  pipeline?: string
  logLevel: string
}

/** Runs a pipeline file until it ends or is stopped, and gives what it did. */
export async function run(file: string, options: RunOptions): Promise<WorkerStatus> {
  const pipeline = await loadPipeline(file, options.pipeline)
  const { plan } = planOf(pipeline)
  const inputs: Record<string, Source> = {}
  for (const given of options.input) {
    const [, name, path] = /^([^=]+)=(.+)$/.exec(given) ?? []
    if (name === undefined || path === undefined) throw new MillraceError('BAD_OPTION', `--input must be NAME=PATH, got '${given}': the sources are ${plan.sources.map((s) => s.name).join(', ')}`)
    inputs[name] = fileSource({ path, name })
  }
  const dataDir = resolve(options.data)
  try {
    mkdirSync(dataDir, { recursive: true })
  } catch (error) {
    throw new MillraceError('DATA_DIR_UNWRITABLE', `the data directory ${dataDir} cannot be made: ${messageOf(error)}`)
  }
  const logger = pino({ level: options.logLevel }, pino.destination({ fd: 2, sync: true }))
  if (options.json) process.env.MILLRACE_JSON = '1'
  const metrics = createMetrics()
  const server = options.metrics === undefined ? undefined : await serve(metrics, options.metrics)
  const store = await sqliteStore({ path: join(dataDir, 'state.db'), runtime: systemRuntime, acceptOlder: options.acceptOlderState ?? false })
  try {
    const worker = await startWorker({
      pipeline,
      store,
      dataDir,
      env: process.env,
      runtime: systemRuntime,
      logger,
      metrics,
      untilEnd: options.untilEnd ?? false,
      reopen: options.reopen ?? false,
      live: options.live ?? false,
      requireReal: options.requireReal ?? false,
      standIns: options.standIn,
      inputs,
      dropState: options.dropState,
      renameState: Object.fromEntries(options.renameState.map((pair) => pair.split('=') as [string, string])),
      toDeadLetters: options.toDeadLetters ?? false,
    })
    const { sources, sinks } = worker.status()
    const standIns = [...Object.values(sources), ...Object.values(sinks)].flatMap(({ standIn }) => standIn ?? [])
    if (standIns.length > 0) process.stderr.write(`stand-ins: ${[...new Set(standIns)].join('; ')}\n`)
    let stops = 0
    const stop = (signal: NodeJS.Signals) => {
      if (stops++ === 0) void worker.drain()
      else void worker.abort().finally(() => process.exit(signal === 'SIGINT' ? 130 : 143))
    }
    process.on('SIGINT', stop).on('SIGTERM', stop)
    const live = process.stderr.isTTY && !options.json
    const line = setInterval(() => show(worker.status(), live ? undefined : logger), live ? 250 : 10_000)
    try {
      return await worker.done
    } finally {
      clearInterval(line)
      if (live) process.stderr.write('\r\u001b[K')
      process.off('SIGINT', stop).off('SIGTERM', stop)
    }
  } finally {
    await store.close()
    server?.close()
  }
}

/** What `--json` ends with. */
export function summary(status: WorkerStatus): string {
  const { pipeline, read, deadLetters, duplicates, late, seconds, freshness, latency } = status
  const sinks = Object.fromEntries(Object.entries(status.sinks).map(([name, { rows, batches }]) => [name, { rows, batches }]))
  return JSON.stringify({ pipeline, read, deadLetters, duplicates, late, sinks, seconds: Number(seconds.toFixed(3)), eventsPerSecond: Math.round(read / Math.max(seconds, 0.001)), freshness, latency })
}

function show(status: WorkerStatus, logger: pino.Logger | undefined): void {
  const { read, seconds, deadLetters, duplicates } = status
  const rows = Object.fromEntries(Object.entries(status.sinks).map(([name, sink]) => [name, sink.rows]))
  if (logger) return logger.info({ read, deadLetters, duplicates, rows }, 'running')
  const sinks = Object.entries(rows).map(([name, count]) => `${name} ${count}`)
  process.stderr.write(`\r\u001b[K${[`${read} read`, `${Math.round(read / Math.max(seconds, 0.001))}/s`, ...sinks].join(' · ')}`)
}

async function serve(metrics: Metrics, port: string) {
  const number = Number(port)
  if (!(Number.isInteger(number) && number >= 0 && number < 65_536)) throw new MillraceError('BAD_OPTION', `--metrics must be a port from 0 to 65535, got '${port}'`)
  const server = createServer((request, response) => {
    if (request.url === '/health') return response.end('ok\n')
    if (request.url !== '/metrics') return response.writeHead(404).end()
    void metrics.registry.metrics().then((text) => response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE'
      reject(new MillraceError(taken ? 'PORT_IN_USE' : 'BAD_OPTION', taken ? `port ${number} for --metrics is taken by another program: choose another, or 0 for any free one` : `--metrics ${number}: ${error.message}`))
    })
    server.listen(number, () => resolve())
  })
  process.stderr.write(`metrics: http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics\n`)
  return server
}
