import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { OpenSink, Sink } from '../../core/sink.ts'
import type { Store } from '../../core/store.ts'
import { startWorker } from '../../core/worker.ts'
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'
import { fileSource } from '../../sources/file.ts'
import { sqliteStore } from '../../state/sqlite.ts'

/**
 * Runs the cart pipeline on a file to its end, in a process that kills itself where it is told:
 * `kill-worker.ts DATA FILE [POINT OCCASION]`. Epochs are small, so that there is much to be killed in.
 */
const [dataDir = '', path = '', point = '', occasion = '0'] = process.argv.slice(2)

/** Places at which a worker can be killed: around all that it says to the world. */
export const POINTS = [
  'before a commit',
  'a commit is on its way',
  'after a commit',
  'before a delivery',
  'a delivery is on its way',
  'after a delivery',
  'at the start',
  'at the end',
] as const

let left = Number(occasion)

function pass(here: (typeof POINTS)[number]): void {
  if (here === point && left-- <= 0) process.kill(process.pid, 'SIGKILL')
}

function killable(store: Store): Store {
  return {
    ...store,
    async commit(change) {
      pass('before a commit')
      const committed = store.commit(change)
      setImmediate(() => pass('a commit is on its way'))
      const result = await committed
      pass('after a commit')
      return result
    },
  }
}

function killableSink(open: OpenSink<unknown>): OpenSink<unknown> {
  return {
    ...open,
    async deliver(delivery, signal) {
      pass('before a delivery')
      const delivered = open.deliver(delivery, signal)
      setTimeout(() => pass('a delivery is on its way'), 1)
      const outcome = await delivered
      pass('after a delivery')
      return outcome
    },
  }
}

if (import.meta.main) {
  for (const output of Object.values(cartAbandonment.outputs) as unknown as { to: { open: Sink<unknown>['open'] } }[]) {
    const sink = output.to
    const open = sink.open.bind(sink)
    sink.open = async (context) => killableSink(await open(context))
  }
  mkdirSync(dataDir, { recursive: true })
  const store = await sqliteStore({ path: join(dataDir, 'state.db'), runtime: systemRuntime })
  pass('at the start')
  const worker = await startWorker({
    pipeline: cartAbandonment,
    store: killable(store),
    dataDir,
    env: {},
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    untilEnd: true,
    inputs: { 'shop.events': fileSource({ path }) },
    epoch: { records: 40, bytes: 1_000_000 },
  })
  await worker.done
  pass('at the end')
  await store.close()
}
