import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import type { Pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Source } from '../../core/source.ts'
import type { WorkerStatus } from '../../core/status.ts'
import { startWorker, type WorkerOptions } from '../../core/worker.ts'
import { embeddedChannels } from '../../embedded/channels.ts'
import { sqliteStore } from '../../state/sqlite.ts'

/** Runs a pipeline on the embedded default until its inputs end. */
export async function runToEnd(
  pipeline: Pipeline,
  dataDir: string,
  inputs: Readonly<Record<string, Source>>,
  given: Partial<WorkerOptions> = {},
): Promise<WorkerStatus> {
  mkdirSync(dataDir, { recursive: true })
  const store = await sqliteStore({ path: join(dataDir, 'state.db'), runtime: systemRuntime })
  try {
    const worker = await startWorker({
      pipeline,
      store,
      dataDir,
      env: {},
      runtime: systemRuntime,
      logger: silentLogger,
      metrics: createMetrics(),
      untilEnd: true,
      inputs,
      channels: embeddedChannels,
      ...given,
    })
    return await worker.done
  } finally {
    await store.close()
  }
}
