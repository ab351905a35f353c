import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { startWorker } from '../../core/worker.ts'
import { redisStore } from '../../state/redis.ts'
import { sqliteStore } from '../../state/sqlite.ts'
import { type JobOptions, job } from './job.ts'

/** What a worker of the bench is told on its command line, as JSON. */
export interface BenchWorkerOptions extends JobOptions {
  readonly brokers: string
  readonly dataDir: string
  /** Where workers share their state; otherwise it is in the data directory. */
  readonly store?: string
}

/** One worker of the job, until it is killed. It prints what it has done ten times a second, as JSON. */
const { brokers, dataDir, store, ...options } = JSON.parse(process.argv[2]!) as BenchWorkerOptions
mkdirSync(dataDir, { recursive: true })
const worker = await startWorker({
  pipeline: job(options),
  store: store
    ? await redisStore({ url: store, runtime: systemRuntime })
    : await sqliteStore({ path: join(dataDir, 'state.db'), runtime: systemRuntime }),
  dataDir,
  env: { KAFKA_BROKERS: brokers },
  runtime: systemRuntime,
  logger: silentLogger,
  metrics: createMetrics(),
  standIns: ['clickhouse'],
})
const printing = setInterval(() => {
  const { read, deadLetters, epochs, sinks } = worker.status()
  const { events, carts } = sinks
  const staged = events!.stagedBatches + carts!.stagedBatches
  console.log(
    JSON.stringify({
      read,
      events: events!.rows,
      carts: carts!.rows,
      dead: deadLetters,
      staged,
      epochs,
      freshness: events!.recent.freshness,
    }),
  )
}, 100)
process.once('SIGTERM', () => void worker.drain())
try {
  await worker.done
} finally {
  clearInterval(printing)
}
process.exit()
