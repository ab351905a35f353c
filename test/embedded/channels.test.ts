import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { stream } from '../../core/stream.ts'
import { startWorker, type WorkerOptions } from '../../core/worker.ts'
import { embeddedChannels } from '../../embedded/channels.ts'
import { map } from '../../operators/map.ts'
import { repartition } from '../../operators/repartition.ts'
import { scan } from '../../operators/scan.ts'
import { file } from '../../sinks/file.ts'
import { sqliteStore } from '../../state/sqlite.ts'
import { listSource } from '../../testing/list-source.ts'
import { until } from '../support/memory-run.ts'
import { anything } from '../support/number-source.ts'

const folder = mkdtempSync(join(tmpdir(), 'millrace-channels-'))
afterAll(() => rmSync(folder, { recursive: true }))

const RECORDS = 3_000
const records = Array.from({ length: 3 }, (_, partition) =>
  Array.from({ length: RECORDS }, (_, n) => ({ id: `${partition}-${n}`, item: n % 50, at: 1_700_000_000_000 + n })),
)

/** Counts records an item, behind a repartition, into a file. */
function counting(source: ReturnType<typeof listSource>, path: string) {
  const counts = stream(source, { schema: anything, key: (e: any) => e.id, time: (e: any) => e.at }).pipe(
    repartition((e: any) => e.item),
    scan({ seed: { count: 0 }, step: ({ count }) => ({ count: count + 1 }), ttl: '1d' }),
    map(({ count }, { key }) => ({ item: key, count })),
  )
  return pipeline('counting', { counts: counts.to(file({ path })) })
}

async function started(name: string, more: Partial<WorkerOptions> & { source: ReturnType<typeof listSource> }) {
  const { source, ...options } = more
  const dataDir = join(folder, name)
  const store = await sqliteStore({ path: join(dataDir, 'state.db'), runtime: systemRuntime })
  const worker = await startWorker({
    pipeline: counting(source, join(dataDir, 'counts.jsonl')),
    store,
    dataDir,
    env: {},
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    channels: embeddedChannels,
    ...options,
  }).catch(async (error) => {
    await store.close()
    throw error
  })
  return { worker, store, dataDir }
}

async function rowsOf(dataDir: string): Promise<{ item: string; count: number }[]> {
  const { readFile } = await import('node:fs/promises')
  const files = readdirSync(dataDir).filter((name) => name.startsWith('counts'))
  const texts = await Promise.all(files.map((name) => readFile(join(dataDir, name), 'utf8')))
  return texts.flatMap((text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  )
}

test('records go through logs on the disk once each, although the worker is given up again and again', async () => {
  const source = listSource('events', records)
  for (let life = 0; life < 5; life++) {
    const { worker, store } = await started('killed', { source, epoch: { records: 100, bytes: 100_000 } })
    await until(() => worker.status().epochs >= 2 + life * 2)
    await worker.abort()
    await store.close()
  }
  source.end()
  const { worker, store, dataDir } = await started('killed', { source })
  const status = await worker.done
  await store.close()
  expect(status.state).toBe('ended')
  const rows = await rowsOf(dataDir)
  expect(rows).toHaveLength(3 * RECORDS)
  const all = rows.map(({ item, count }) => `${item} ${count}`).sort()
  const wanted = Array.from({ length: 50 }, (_, item) =>
    Array.from({ length: (3 * RECORDS) / 50 }, (_, n) => `${item} ${n + 1}`),
  )
  expect(all).toEqual(wanted.flat().sort())
  const { worker: again, store: same } = await started('killed', { source })
  await again.done
  await same.close()
  expect(await rowsOf(dataDir)).toHaveLength(3 * RECORDS)
})

test('a stage that is gone is refused, since what is on its way to it would be lost', async () => {
  const source = listSource('events', records)
  source.end()
  const { worker, store, dataDir } = await started('gone', { source })
  await worker.done
  await store.close()
  const other = pipeline('counting', {
    counts: stream(source, { schema: anything, key: (e: any) => e.id, time: (e: any) => e.at }).to(
      file({ path: join(dataDir, 'counts.jsonl') }),
    ),
  })
  await expect(started('gone', { source, pipeline: other })).rejects.toMatchObject({
    code: 'TOPOLOGY_CHANGED',
    message: expect.stringContaining('the stage "repartition"'),
  })
})
