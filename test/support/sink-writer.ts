/** A program that delivers batch after batch to a sink and tells its parent of each answer, until it is killed. */
import { join } from 'node:path'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { sharing } from '../../core/share.ts'
import type { Delivery, OpenSink, RowMeta, Sink } from '../../core/sink.ts'
import { esp } from '../../sinks/esp.ts'
import { file } from '../../sinks/file.ts'
import { redis } from '../../sinks/redis.ts'

/** Rows of one batch. */
export const ROWS = 50
export const TASK = 'writer/main/0'

export interface WriterRow {
  readonly id: string
  readonly text: string
}

const SINKS: Record<string, (dataDir: string) => Sink<WriterRow>> = {
  redis: () => redis<WriterRow>({ key: (row) => row.id, ttl: 'forever' }),
  file: (dataDir) => file<WriterRow>({ path: join(dataDir, 'out/rows.jsonl') }),
  esp: () => esp<WriterRow>({ event: 'Written', recipient: (row) => row.id, expiresAfter: '1d' }),
}

export const writerSink = (kind: string, dataDir: string): Sink<WriterRow> => SINKS[kind]!(dataDir)

/** The n-th batch, from 0: the same bytes whenever it is made. */
export function writerBatch(open: OpenSink<WriterRow>, n: number): Delivery {
  const encoder = open.encoder(TASK)
  const texts = Array.from({ length: ROWS }, (_, i) => {
    const place = n * ROWS + i
    const time = 1_700_000_000_000 + place
    const meta: RowMeta = { key: `${place}`, time, cause: `shop/0/${place}`, now: () => time, version: () => time }
    return encoder.row({ id: `row-${place}`, text: 'x'.repeat(place % 700) }, meta)
  })
  return {
    name: `life/${TASK}/${n}/sink/0`,
    task: TASK,
    head: encoder.head,
    body: Buffer.from(texts.join('')),
    rows: ROWS,
    stagedAt: 1_700_000_000_000,
    attempt: 1,
    afterUnknown: false,
  }
}

if (import.meta.main) {
  const [kind = '', dataDir = ''] = process.argv.slice(2)
  const open = await writerSink(kind, dataDir).open({
    pipeline: 'writer',
    stage: 'main',
    output: 'sink',
    dataDir,
    env: {},
    live: false,
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    share: sharing(),
  })
  await open.attach?.(TASK, undefined)
  for (let n = 0; ; n++) {
    const outcome = await open.deliver(writerBatch(open, n), new AbortController().signal)
    process.send?.({ n, outcome })
  }
}
