import type { Logger } from '../core/logger.ts'
import { createMetrics } from '../core/metrics.ts'
import type { Pipeline } from '../core/pipeline.ts'
import { systemRuntime } from '../core/runtime.ts'
import type { Source } from '../core/source.ts'
import type { WorkerStatus } from '../core/status.ts'
import { startWorker, type Worker, type WorkerOptions } from '../core/worker.ts'
import { channelsOf } from './channels.ts'
import { makeDataDir, shortPath } from './data-dir.ts'
import { type MetricsServer, serveMetrics } from './metrics-server.ts'
import type { Progress } from './progress.ts'
import { openStore } from './store.ts'

/** How a pipeline is run in this process. */
export interface RunPipelineOptions
  extends Pick<
    WorkerOptions,
    | 'untilEnd'
    | 'reopen'
    | 'live'
    | 'requireReal'
    | 'standIns'
    | 'dropState'
    | 'renameState'
    | 'toDeadLetters'
    | 'acceptOlderState'
    | 'workers'
  > {
  readonly pipeline: Pipeline
  /** The data directory; it is made. */
  readonly data: string
  /** The Redis that keeps the state, `redis://…`. @default the data directory keeps it */
  readonly store?: string
  readonly inputs: Readonly<Record<string, Source>>
  readonly logger: Logger
  /** Standard output belongs to the command: sinks print elsewhere. @default false */
  readonly json?: boolean
  /** `PORT` or `HOST:PORT` of `/metrics`. @default nothing is served */
  readonly metrics?: string
  /** Called when the metrics are served. */
  readonly serving?: (url: string) => void
  /** Called when the worker has started, with the stand-ins in use, as in `events: the embedded ClickHouse in .millrace/warehouse`. */
  readonly started?: (worker: Worker, standIns: readonly string[]) => Progress
}

/** Milliseconds that a second signal leaves for what is under way. */
const NOW = 1_000

/**
 * Runs a pipeline until its sources end. The first SIGINT, SIGTERM or SIGHUP drains it: it takes nothing more, commits
 * the epoch under way, delivers what can be delivered soon, and ends well. The second ends the process at once, with
 * 130, 143 or 129; nothing is lost by it.
 *
 * @throws MillraceError what stopped it
 */
export async function runPipeline(options: RunPipelineOptions): Promise<WorkerStatus> {
  const {
    pipeline,
    data,
    store: storeUrl,
    inputs,
    logger,
    json = false,
    metrics: listen,
    acceptOlderState = false,
    serving,
    started,
    ...rest
  } = options
  const metrics = createMetrics()
  let worker: Worker | undefined
  let server: MetricsServer | undefined
  let progress: Progress | undefined
  const signals = onSignals(
    () => {
      logger.info({}, 'draining: the epoch under way is finished; a second signal ends at once')
      void worker?.drain()
    },
    () => worker?.abort(),
  )
  try {
    if (listen !== undefined) {
      server = await serveMetrics(listen, metrics, () => worker?.status())
      serving?.(server.url)
    }
    const dataDir = makeDataDir(data)
    const store = await openStore(storeUrl, dataDir, { acceptOlder: acceptOlderState, logger })
    try {
      worker = await startWorker({
        ...rest,
        pipeline,
        store,
        dataDir,
        env: json ? { ...process.env, MILLRACE_JSON: '1' } : process.env,
        runtime: systemRuntime,
        logger,
        metrics,
        inputs,
        acceptOlderState,
        channels: channelsOf(process.env),
      })
      if (signals.asked()) void worker.drain()
      progress = started?.(worker, standInsOf(worker.status(), dataDir))
      return await worker.done
    } finally {
      progress?.stop()
      await store.close()
    }
  } finally {
    signals.ignore()
    await server?.close()
  }
}

function standInsOf({ sources, sinks }: WorkerStatus, dataDir: string): string[] {
  return [...Object.entries(sources), ...Object.entries(sinks)].flatMap(([name, { standIn }]) =>
    standIn === null ? [] : [`${name}: ${standIn.replaceAll(dataDir, shortPath(dataDir))}`],
  )
}

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const

/** Asks for the end at the first signal, and makes it at the second. */
function onSignals(drain: () => void, abort: () => Promise<void> | undefined) {
  let count = 0
  const heard = (signal: NodeJS.Signals) => {
    count += 1
    if (count === 1) return drain()
    const end = () => process.exit(SIGNALS[signal as keyof typeof SIGNALS])
    setTimeout(end, NOW)
    void Promise.resolve(abort()).finally(end)
  }
  for (const signal of Object.keys(SIGNALS)) process.on(signal, heard)
  // whoever started this process as one of several is gone
  const orphaned = () => heard('SIGTERM')
  process.on('disconnect', orphaned)
  return {
    asked: () => count > 0,
    ignore() {
      for (const signal of Object.keys(SIGNALS)) process.off(signal, heard)
      process.off('disconnect', orphaned)
    },
  }
}
