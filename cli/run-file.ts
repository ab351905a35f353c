import { MillraceError } from '../core/errors.ts'
import { systemRuntime } from '../core/runtime.ts'
import { clocksOf, clocksText } from './clocks.ts'
import { dataFlag } from './data-dir.ts'
import type { LogLevel } from './defaults.ts'
import { inputsOf } from './inputs.ts'
import { loadPipeline } from './load-pipeline.ts'
import { jsonLogger, terminalLogger } from './loggers.ts'
import { drawProgress, liveLine, logProgress } from './progress.ts'
import { runPipeline } from './run-pipeline.ts'
import { summaryJson, summaryText } from './summary.ts'
import { err, out } from './terminal.ts'
import { runWorkers, WORKERS, workersOf } from './workers.ts'

/** The options of `millrace run`, as the command line gives them. */
interface RunOptions {
  readonly input: readonly string[]
  readonly data: string
  readonly store?: string
  readonly untilEnd?: true
  readonly reopen?: true
  readonly requireReal?: true
  readonly standIn: readonly string[]
  readonly live?: true
  readonly json?: true
  readonly metrics?: string
  readonly workers?: string
  readonly dropState: readonly string[]
  readonly renameState: readonly string[]
  readonly toDeadLetters?: true
  readonly acceptOlderState?: true
  readonly pipeline?: string
  readonly logLevel: LogLevel
}

/**
 * Runs the pipeline that a file exports, and says how it went.
 *
 * @throws MillraceError what stopped it
 */
export async function runFile(file: string, options: RunOptions): Promise<void> {
  const {
    data,
    untilEnd = false,
    json = false,
    logLevel,
    standIn: standIns,
    renameState,
    input,
    pipeline: name,
    workers: processes,
    ...rest
  } = options
  const workers = workersOf(processes)
  const pipeline = await loadPipeline(file, name)
  const inputs = inputsOf(pipeline, input, untilEnd)
  const line = liveLine(err)
  const logger = err.isTTY ? terminalLogger(logLevel, line, err) : jsonLogger(logLevel)
  const say = (fields: object, text: string) =>
    err.isTTY ? line.print(`${err.style('dim', text)}\n`) : logger.info(fields, text)
  if (workers > 1) {
    const { metrics, store } = options
    if (!store)
      throw new MillraceError(
        'BAD_OPTION',
        `--workers ${workers}: they need a store that all of them reach: name a Redis with --store redis://host:6379/0`,
      )
    process.exitCode = await runWorkers({ workers, argv: process.argv.slice(2), json, metrics, logger })
    return
  }
  let status: Awaited<ReturnType<typeof runPipeline>>
  try {
    status = await runPipeline({
      ...rest,
      pipeline,
      data,
      inputs,
      untilEnd,
      json,
      standIns,
      renameState: renamesOf(renameState),
      workers: workersOf(process.env[WORKERS]),
      logger,
      serving: (url) => say({ url }, `metrics: ${url}`),
      started(worker, using) {
        if (using.length > 0) say({ standIns: using }, `stand-ins: ${using.join('; ')}`)
        // whoever started this process as one of several waits for it to be at work
        process.send?.({ state: 'running' })
        const now = () => worker.status()
        return err.isTTY ? drawProgress(now, systemRuntime, line) : logProgress(now, systemRuntime, logger)
      },
    })
  } finally {
    line.clear()
  }
  const { store } = options
  const clocks = await clocksOf(pipeline, { data, store })
  // The address may hold a password, and is not printed.
  const flag = store ? ' --store URL' : dataFlag(data)
  out.write(json ? `${summaryJson(status, clocks)}\n` : summaryText(status, out, flag) + clocksText(clocks))
}

/** @throws MillraceError BAD_OPTION */
function renamesOf(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((pair) => {
      const [before = '', after = '', more] = pair.split('=')
      if (before !== '' && after !== '' && more === undefined) return [before, after]
      throw new MillraceError('BAD_OPTION', `--rename-state must be OLD=NEW, such as dedup=by-event-id, got '${pair}'`)
    }),
  )
}
