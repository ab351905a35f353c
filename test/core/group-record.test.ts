import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import type { Group } from '../../core/group.ts'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Source } from '../../core/source.ts'
import { stream } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { memoryStore } from '../../state/memory.ts'
import { listSource } from '../../testing/list-source.ts'
import { countingSink } from '../support/counting-sink.ts'

test('a group is told of the last commit too, though nothing follows it', async () => {
  const told: number[] = []
  const group: Group = {
    name: 'the group "test"',
    join: async (member) => member.assigned([0]),
    recorded: async () => ({}),
    record: async (_, records) => void told.push(records.numbers!.next),
    leave: async () => undefined,
  }
  const list = listSource('numbers', [Array.from({ length: 100 }, (_, n) => ({ n }))])
  const source: Source = { ...list, open: async (...given) => ({ ...(await list.open(...given)), group }) }
  const options = { schema: z.object({ n: z.number() }), key: () => 'k', time: (e: { n: number }) => e.n }
  const dataDir = mkdtempSync(join(tmpdir(), 'millrace-group-'))
  const worker = await startWorker({
    pipeline: pipeline('told', { rows: stream(source, options).to(countingSink()) }),
    store: memoryStore(),
    dataDir,
    env: {},
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    epoch: { records: 10, bytes: 1_000_000 },
  })
  onTestFinished(async () => {
    await worker.drain()
    rmSync(dataDir, { recursive: true, force: true })
  })
  await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(100)
  // some commits, but not each of the ten
  expect(told.length).toBeLessThan(5)
})
