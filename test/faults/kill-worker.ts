import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { OpenSink, Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import type { Store } from '../../core/store.ts'
import { startWorker } from '../../core/worker.ts'
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'
import { fileSource } from '../../sources/file.ts'
import { sqliteStore } from '../../state/sqlite.ts'

/**
 * Runs the cart pipeline on a file to its end, in a process that kills itself where it is told:
 * `MILLRACE_KILL_AT='before a commit' MILLRACE_KILL_OCCASION=3 node kill-worker.ts DATA FILE` kills it at the fourth.
 * Epochs are small, so that there is much to be killed in.
 */
const [dataDir = '', path = ''] = process.argv.slice(2)
const { MILLRACE_KILL_AT: point = '', MILLRACE_KILL_OCCASION: occasion = '0' } = process.env

/** Places at which a worker can be killed: around all that it says to the world, and between. */
export const POINTS = [
  'at the start',
  'in the flow',
  'before a commit',
  'a commit is on its way',
  'after a commit',
  'before a delivery',
  'a delivery is on its way',
  'after a delivery',
  'before an acknowledgement',
  'after an acknowledgement',
  'before the end',
  'while it closes',
] as const

/** Those that come once in a life. */
export const ONCE: readonly string[] = ['at the start', 'before the end', 'while it closes']

let left = Number(occasion)

function pass(here: (typeof POINTS)[number]): void {
  if (here === point && left-- <= 0) process.kill(process.pid, 'SIGKILL')
}

/** Some moments into what has begun: which ones, the occasion says. */
function passSoon(here: (typeof POINTS)[number]): void {
  if (here === point) setTimeout(() => pass(here), Number(occasion) % 4)
}

function killable(store: Store): Store {
  return {
    ...store,
    async commit(change) {
      const acknowledges = change.lanes?.some(({ remove = [] }) => remove.length > 0)
      pass('before a commit')
      if (acknowledges) pass('before an acknowledgement')
      const committed = store.commit(change)
      passSoon('a commit is on its way')
      const result = await committed
      pass('after a commit')
      if (acknowledges) pass('after an acknowledgement')
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
      passSoon('a delivery is on its way')
      const outcome = await delivered
      pass('after a delivery')
      return outcome
    },
  }
}

function killableSource(source: Source): Source {
  return {
    ...source,
    async open(context, how) {
      const open = await source.open(context, how)
      return {
        ...open,
        decode(record) {
          pass('in the flow')
          return open.decode(record)
        },
      }
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
    inputs: { 'shop.events': killableSource(fileSource({ path })) },
    epoch: { records: 40, bytes: 1_000_000 },
  })
  await worker.done
  pass('before the end')
  const closed = store.close()
  pass('while it closes')
  await closed
}
