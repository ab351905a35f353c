import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { MillraceError } from '../core/errors.ts'
import type { Logger } from '../core/logger.ts'
import { systemRuntime } from '../core/runtime.ts'
import { count, counted } from './format.ts'
import { err, out } from './terminal.ts'

/** How a worker process is told that others run the same pipeline beside it: their number, itself counted. */
export const WORKERS = 'MILLRACE_WORKERS'

export interface WorkersOptions {
  readonly workers: number
  /** The arguments of `millrace` as they were given. */
  readonly argv: readonly string[]
  readonly json: boolean
  readonly metrics: string | undefined
  readonly logger: Logger
}

/** The parts of a worker's last line that are summed up. */
interface Summary {
  readonly pipeline: string
  readonly read: number
  readonly deadLetters: number
  readonly duplicates: number
  readonly late: number
  readonly seconds: number
  readonly sinks: Readonly<Record<string, Readonly<Record<string, number>>>>
}

/** Exit codes that a further start would only give again: the command line, the data directory, the state, the poison. */
const FINAL = new Set([2, 3, 4, 5, 7])
/** Milliseconds before a worker that died is started again, doubled each time; forgotten once it has lived so long. */
const RESTART = { first: 500, most: 30_000, lived: 60_000 }
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const

/**
 * Runs a pipeline in several processes of this machine. One that dies is started again; one that ends for a reason that
 * a start would not mend ends all of them. Signals go on to all; SIGUSR2 starts them anew one after the other, each when
 * the one before is at work.
 *
 * @returns the exit code: 0, or the first that was not
 */
export async function runWorkers(options: WorkersOptions): Promise<number> {
  const { workers, json, logger } = options
  const running = Array.from({ length: workers }, (_, i) => new WorkerProcess(i, options))
  let signalled = 0
  const forward = (signal: NodeJS.Signals) => {
    signalled++
    for (const worker of running) worker.stop(signal)
  }
  let rolling = Promise.resolve()
  const roll = () => {
    rolling = rolling.then(async () => {
      logger.info({}, 'starting the workers anew, one after the other')
      for (const worker of running) if (signalled === 0) await worker.renew()
    })
  }
  for (const signal of SIGNALS) process.on(signal, forward)
  process.on('SIGUSR2', roll)
  try {
    const codes = await Promise.all(
      running.map(async (worker) => {
        const code = await worker.run()
        if (code !== 0) for (const other of running) other.stop('SIGTERM')
        return code
      }),
    )
    const summaries = running.flatMap(({ summaries: all }) => all)
    if (summaries.length > 0) report(summaries, running, json)
    return codes.find((code) => code !== 0) ?? 0
  } finally {
    for (const signal of SIGNALS) process.off(signal, forward)
    process.off('SIGUSR2', roll)
  }
}

class WorkerProcess {
  /** The last line of each time that it ended well. */
  readonly summaries: Summary[] = []
  restarts = 0
  private readonly index: number
  private readonly options: WorkersOptions
  private child: ChildProcess | undefined
  private stopped: NodeJS.Signals | undefined
  private renewing = false
  private working: (() => void) | undefined
  private readonly waiting = new AbortController()

  constructor(index: number, options: WorkersOptions) {
    this.index = index
    this.options = options
  }

  /** Resolves with its exit code when it has ended for good. */
  async run(): Promise<number> {
    const { logger } = this.options
    for (let wait = RESTART.first; ; ) {
      const began = systemRuntime.elapsed()
      const { code, signal } = await this.once()
      if (this.renewing) {
        this.renewing = false
        continue
      }
      if (code === 0 || this.stopped || (code !== null && FINAL.has(code))) return code ?? 128
      if (systemRuntime.elapsed() - began > RESTART.lived) wait = RESTART.first
      this.restarts++
      const how = signal ? `was ended by ${signal}` : `ended with ${code}`
      logger.warn({ worker: this.index }, `worker ${this.index + 1} ${how}; it is started again`)
      await systemRuntime.sleep(wait * (0.5 + systemRuntime.random() / 2), this.waiting.signal)
      if (this.stopped) return code ?? 128
      wait = Math.min(RESTART.most, wait * 2)
    }
  }

  stop(signal: NodeJS.Signals): void {
    this.stopped = signal
    this.waiting.abort('stopped')
    this.child?.kill(signal)
  }

  /** Drains it and starts it again; resolves when it is at work. */
  async renew(): Promise<void> {
    if (!this.child || this.stopped) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.working = resolve
    this.renewing = true
    this.child.kill('SIGTERM')
    await promise
  }

  private once(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    const { workers } = this.options
    const bin = fileURLToPath(new URL('../bin/millrace.js', import.meta.url))
    const child = spawn(process.execPath, [bin, ...this.argv()], {
      env: { ...process.env, [WORKERS]: String(workers) },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.child = child
    let last = ''
    lines(child.stdout!, (line) => {
      last = line
    })
    lines(child.stderr!, (line) => err.write(`${err.style('dim', `${this.index + 1} |`)} ${line}\n`))
    child.on('message', () => this.working?.())
    return new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, signal) => {
        this.child = undefined
        if (code === 0 && last.startsWith('{')) this.summaries.push(JSON.parse(last) as Summary)
        if (this.stopped) this.working?.()
        resolve({ code, signal })
      })
    })
  }

  /** What the worker is called with: the same, but for what only one process can have. */
  private argv(): string[] {
    const { argv, json, metrics } = this.options
    const own = withoutOptions(argv, ['--workers', '--metrics'])
    return [...own, ...(json ? [] : ['--json']), ...(metrics === undefined ? [] : ['--metrics', this.portOf(metrics)])]
  }

  /** Each worker serves its own metrics, at the ports from the given one on. */
  private portOf(metrics: string): string {
    const at = metrics.lastIndexOf(':') + 1
    const port = Number(metrics.slice(at))
    return port === 0 ? metrics : `${metrics.slice(0, at)}${port + this.index}`
  }
}

/** @throws MillraceError BAD_OPTION */
export function workersOf(text: string | undefined): number {
  if (text === undefined) return 1
  const workers = Number(text)
  if (Number.isInteger(workers) && workers >= 1 && workers <= 256) return workers
  throw new MillraceError('BAD_OPTION', `--workers must be a whole number from 1 to 256, got '${text}'`)
}

function withoutOptions(argv: readonly string[], names: readonly string[]): string[] {
  const kept: string[] = []
  for (let i = 0; i < argv.length; i++) {
    if (names.includes(argv[i]!)) i++
    else if (!names.some((name) => argv[i]!.startsWith(`${name}=`))) kept.push(argv[i]!)
  }
  return kept
}

function lines(stream: NodeJS.ReadableStream, take: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    const parts = (rest + text).split('\n')
    rest = parts.pop()!
    for (const part of parts) take(part)
  })
  stream.on('end', () => {
    if (rest !== '') take(rest)
  })
}

function report(summaries: readonly Summary[], running: readonly WorkerProcess[], json: boolean): void {
  const sum = (of: (each: Summary) => number) => summaries.reduce((total, each) => total + of(each), 0)
  const { pipeline } = summaries[0]!
  const seconds = Math.max(...summaries.map((each) => each.seconds))
  const restarts = running.reduce((total, worker) => total + worker.restarts, 0)
  const sinks: Record<string, Record<string, number>> = {}
  for (const { sinks: own } of summaries)
    for (const [name, counts] of Object.entries(own))
      for (const [what, value] of Object.entries(counts)) (sinks[name] ??= {})[what] = (sinks[name]![what] ?? 0) + value
  const total = {
    pipeline,
    workers: running.length,
    restarts,
    read: sum(({ read }) => read),
    deadLetters: sum(({ deadLetters }) => deadLetters),
    duplicates: sum(({ duplicates }) => duplicates),
    late: sum(({ late }) => late),
    sinks,
    seconds,
    eventsPerSecond: Math.round(sum(({ read }) => read) / Math.max(seconds, 0.001)),
  }
  if (json) out.write(`${JSON.stringify(total)}\n`)
  else {
    const rows = Object.entries(sinks).map(([name, counts]) => `  ${name}: ${counted(counts.rows ?? 0, 'row')}\n`)
    out.write(
      `${out.style('bold', pipeline)}: ${counted(total.read, 'record')} by ${counted(running.length, 'worker')} (${count(total.eventsPerSecond)}/s); ${counted(total.duplicates, 'duplicate')}, ${counted(total.deadLetters, 'dead letter')}, ${counted(restarts, 'restart')}\n${rows.join('')}`,
    )
  }
}
