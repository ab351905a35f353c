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
import type { Store } from '../../core/store.ts'
import { stream } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { listSource } from '../../testing/list-source.ts'
import { countingSink } from '../support/counting-sink.ts'

interface Telling {
  readonly store?: Store
  /** So many words in a row that the group does not take. */
  readonly refuses?: number
}

/** Starts a worker over a hundred numbers in a group, and gives what the group was told. */
async function telling({ store = memoryStore(), refuses = 0 }: Telling = {}) {
  const told: number[] = []
  let refused = 0
  const group: Group = {
    name: 'the group "test"',
    join: async (member) => void member.assigned([0], 0),
    recorded: async () => ({}),
    async record(_, records) {
      if (refused++ < refuses) throw new Error('it is shared out anew')
      told.push(records.numbers!.next)
    },
    leave: async () => undefined,
  }
  const list = listSource('numbers', [Array.from({ length: 100 }, (_, n) => ({ n }))])
  const source: Source = { ...list, open: async (...given) => ({ ...(await list.open(...given)), group }) }
  const options = { schema: z.object({ n: z.number() }), key: () => 'k', time: (e: { n: number }) => e.n }
  const dataDir = mkdtempSync(join(tmpdir(), 'millrace-group-'))
  const worker = await startWorker({
    pipeline: pipeline('told', { rows: stream(source, options).to(countingSink()) }),
    store,
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
  return { told, worker }
}

test('a group is told of the last commit too, though nothing follows it', async () => {
  const { told } = await telling()
  await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(100)
  // some commits, but not each of the ten
  expect(told.length).toBeLessThan(5)
})

test('a group that does not take the word is told again', async () => {
  const { told } = await telling({ refuses: 2 })
  await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(100)
})

test('who takes a partition over says how far it is, though there is nothing to read', async () => {
  const disk = new MemoryDisk()
  const { worker } = await telling({ store: memoryStore({ disk }), refuses: 1_000 })
  await expect.poll(() => worker.status().sinks.rows!.rows).toBe(100)
  await worker.abort()
  const { told } = await telling({ store: memoryStore({ disk }) })
  await expect.poll(() => told.at(-1)).toBe(100)
})
