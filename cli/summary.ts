import type { WorkerStatus } from '../core/status.ts'
import type { SourceClock } from './clocks.ts'
import { count, counted, span } from './format.ts'
import { renderTable } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Records a second since the start. */
export function rateOf({ read, seconds }: Pick<WorkerStatus, 'read' | 'seconds'>): number {
  return Math.round(read / Math.max(seconds, 0.001))
}

/** What `--json` ends with: counts of this run, times in milliseconds. */
export function summaryJson(status: WorkerStatus, clocks: readonly SourceClock[] = []): string {
  const { pipeline, read, deadLetters, duplicates, late, seconds, freshness, latency } = status
  const sinks = Object.fromEntries(
    Object.entries(status.sinks).map(([name, { rows, batches, rejected, stagedBatches }]) => [
      name,
      { rows, batches, rejected, stagedBatches },
    ]),
  )
  return JSON.stringify({
    pipeline,
    read,
    deadLetters,
    duplicates,
    late,
    sinks,
    seconds: Number(seconds.toFixed(3)),
    eventsPerSecond: rateOf(status),
    freshness,
    latency,
    ...(clocks.length > 0 ? { clocks } : {}),
  })
}

/** What a run ends with on a terminal: what was read, what each sink answered for, and what to look at. */
export function summaryText(status: WorkerStatus, on: Terminal, dataFlag: string): string {
  const { pipeline, read, deadLetters, duplicates, late, seconds, sinks } = status
  const asides = [
    counted(duplicates, 'duplicate'),
    counted(deadLetters, 'dead letter'),
    ...(late > 0 ? [`${count(late)} late`] : []),
  ]
  const waiting = Object.values(sinks).reduce((sum, sink) => sum + sink.stagedBatches, 0)
  return [
    `${on.style('bold', pipeline)}: ${counted(read, 'record')} in ${span(seconds * 1_000)} (${count(rateOf(status))}/s); ${asides.join(', ')}\n`,
    renderTable({
      columns: [
        { title: 'output' },
        { title: 'rows', align: 'right' },
        { title: 'batches', align: 'right' },
        { title: 'rejected', align: 'right' },
        { title: 'waiting', align: 'right' },
        { title: 'guarantee' },
      ],
      rows: Object.entries(sinks).map(([name, sink]) => [
        name,
        count(sink.rows),
        count(sink.batches),
        count(sink.rejected),
        count(sink.stagedBatches),
        sink.guarantee,
      ]),
      on,
    }),
    ...(deadLetters > 0 ? [`why records were set aside: millrace dead-letters list${dataFlag}\n`] : []),
    ...(waiting > 0
      ? [`${counted(waiting, 'batch waits', 'batches wait')} for delivery; the next start goes on with them\n`]
      : []),
  ].join('')
}
