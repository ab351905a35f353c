import { type Logger, silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Sink } from '../../core/sink.ts'
import { type LaneOptions, stream } from '../../core/stream.ts'
import { startWorker, type Worker, type WorkerOptions } from '../../core/worker.ts'
import { ChannelMemory, memoryChannels } from '../../embedded/memory-channels.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { anything, numberSource } from './number-source.ts'

export interface MemoryRunOptions extends Partial<WorkerOptions> {
  readonly records?: number
  /** Sinks by their outputs' names, with their lanes' options. */
  readonly sinks: Readonly<Record<string, readonly [Sink<any>, LaneOptions?]>>
  readonly disk?: MemoryDisk
  readonly logger?: Logger
}

/** Starts a worker that brings numbers to sinks, on a store in memory. */
export function numbersTo({
  records = 1_000,
  sinks,
  disk = new MemoryDisk(),
  ...given
}: MemoryRunOptions): Promise<Worker> {
  const numbers = stream(numberSource(records), {
    schema: anything,
    key: (e) => e.key,
    time: (e) => e.at,
    lateness: '1s',
  })
  const outputs = Object.fromEntries(
    Object.entries(sinks).map(([name, [sink, lane]]) => [name, numbers.to(sink, lane)]),
  )
  return startWorker({
    pipeline: pipeline('numbers', outputs),
    store: memoryStore({ disk }),
    dataDir: '/nowhere',
    env: {},
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    channels: memoryChannels(new ChannelMemory()),
    ...given,
  })
}

/** Waits until something is so. */
export async function until(what: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
  for (const end = Date.now() + seconds * 1_000; !(await what()); ) {
    if (Date.now() > end) throw new Error(`not so after ${seconds} s: ${what}`)
    await systemRuntime.sleep(10)
  }
}
