import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { stream } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { sqliteStore } from '../../state/sqlite.ts'
import { countingSink } from './counting-sink.ts'
import { anything, numberSource } from './number-source.ts'

/**
 * Reads so many records into two sinks, one of which takes a batch a second until it recovers. Prints what it saw while the
 * source stood still, and at the end, as one line of JSON.
 */
const [folder, records, slowSeconds] = process.argv.slice(2)
let recovered = false
const slow = countingSink({
  keep: false,
  async answer() {
    if (!recovered) await systemRuntime.sleep(1_000)
    return { kind: 'applied' }
  },
})
const quick = countingSink({ keep: false })
const source = numberSource(Number(records))
const numbers = stream(source, { schema: anything, key: (e) => e.key, time: (e) => e.at, lateness: '1s' })
const store = await sqliteStore({ path: join(folder!, 'state.db'), runtime: systemRuntime })
const worker = await startWorker({
  pipeline: pipeline('slow', { slow: numbers.to(slow, { maxStaged: '64MB' }), quick: numbers.to(quick) }),
  store,
  dataDir: folder!,
  env: {},
  runtime: systemRuntime,
  logger: silentLogger,
  metrics: createMetrics(),
})
await systemRuntime.sleep(Number(slowSeconds) * 1_000)
const look = () => ({ read: worker.status().read, taken: source.taken, slow: slow.rows, quick: quick.rows })
const before = look()
const paused = worker.status().sources.numbers!.paused
await systemRuntime.sleep(2_000)
const after = look()
const memoryMB = process.memoryUsage().rss / 1_048_576
recovered = true
const { read } = await worker.done
await store.close()
const peakMemoryMB = process.resourceUsage().maxRSS / 1_024
console.log(JSON.stringify({ before, after, paused, memoryMB, peakMemoryMB, read, slow: slow.rows, quick: quick.rows }))
