import { expect, onTestFinished, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { stream } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { type Fate, memoryStore } from '../../state/memory.ts'
import { listSource } from '../../testing/list-source.ts'
import { countingSink } from '../support/counting-sink.ts'
import { noMetrics } from '../support/no-metrics.ts'
import { anything } from '../support/number-source.ts'

test('a drain that is asked for while the last delivery is noted ends the worker, and does not wait for its next look', async () => {
  const noting = Promise.withResolvers<void>()
  const mayNote = Promise.withResolvers<void>()
  const numbers = stream(listSource('numbers', [[{ n: 1, key: 'k', at: 1 }]]), {
    schema: anything,
    key: ({ key }) => key,
    time: ({ at }) => at,
  })
  // answers when the first one's answer is being noted, which wakes the task
  const second = countingSink({ answer: () => noting.promise.then(() => ({ kind: 'applied' })) })
  const worker = await startWorker({
    pipeline: pipeline('drained', { first: numbers.to(countingSink()), second: numbers.to(second) }),
    store: memoryStore({
      async flush(changes): Promise<Fate> {
        if (changes.some(({ epoch, lanes }) => epoch === undefined && lanes?.some(({ remove }) => remove))) {
          noting.resolve()
          await mayNote.promise
        }
        return 'committed'
      },
    }),
    dataDir: '/nowhere',
    env: {},
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: noMetrics,
    cache: false,
  })
  onTestFinished(() => worker.abort())
  await noting.promise
  // the task is at its head, and waits for what is noted before it rests again
  await systemRuntime.sleep(50)
  const drained = worker.drain()
  mayNote.resolve()
  await drained
  expect(worker.status().state).toBe('ended')
})

test('a worker that is ended at once does nothing more while its store takes its time', async () => {
  const numbers = stream(listSource('numbers', [[{ n: 1, key: 'k', at: 1 }]]), {
    schema: anything,
    key: ({ key }) => key,
    time: ({ at }) => at,
  })
  const committing = Promise.withResolvers<void>()
  let asked = 0
  let ending = false
  const worker = await startWorker({
    pipeline: pipeline('ended', { out: numbers.to(countingSink()) }),
    store: memoryStore({
      async flush(): Promise<Fate> {
        committing.resolve()
        await systemRuntime.sleep(200)
        return 'committed'
      },
    }),
    dataDir: '/nowhere',
    env: {},
    runtime: {
      ...systemRuntime,
      sleep: async (ms, signal) => {
        // one that asks again and again would let nothing else run
        return ending && ++asked > 1_000 ? systemRuntime.sleep(1_000) : systemRuntime.sleep(ms, signal)
      },
    },
    logger: silentLogger,
    metrics: noMetrics,
    cache: false,
  })
  await committing.promise
  ending = true
  await worker.abort()
  expect(asked).toBeLessThan(10)
})
