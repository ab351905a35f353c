import type { Metrics } from './metrics.ts'
import type { Quantiles, WorkerStatus } from './status.ts'

/** Brings what a worker says of itself to the registry, whenever it is called. */
export function measure(metrics: Metrics, pipeline: string): (status: WorkerStatus) => void {
  const counter = <L extends string>(name: string, help: string, ...labels: L[]) =>
    metrics.counter(`millrace_${name}_total`, help, ['pipeline', ...labels])
  const gauge = <L extends string>(name: string, help: string, ...labels: L[]) =>
    metrics.gauge(`millrace_${name}`, help, ['pipeline', ...labels])

  const all = {
    read: counter('records_read', 'Records taken from the sources.'),
    deadLetters: counter('dead_letters', 'Records, timers and rows set aside.'),
    duplicates: counter('duplicates', 'Records that a dedup dropped.'),
    late: counter('late', 'Records that came too late for an operator.'),
    epochs: counter('epochs', 'Epochs committed.'),
  }
  const strays = counter('stray_keys', 'Keys, of a sample of one in sixteen, that came through two partitions.', 'at')
  const ofSource = {
    read: counter('source_records_read', 'Records taken from a source.', 'source'),
    lag: gauge('source_lag', 'What is left to read, in records or bytes.', 'source', 'unit'),
    partitions: gauge('source_partitions', 'Partitions that this worker works on.', 'source'),
    paused: gauge('source_paused', '1 while nothing is taken because a lane is full.', 'source'),
  }
  const ofSink = {
    rows: counter('rows_delivered', 'Rows that a sink has answered for.', 'sink'),
    batches: counter('batches_delivered', 'Batches that a sink has answered for.', 'sink'),
    rejected: counter('rows_rejected', 'Rows that a sink refused for good.', 'sink'),
    outcomes: counter('delivery_attempts', 'Attempts to deliver, by how they ended.', 'sink', 'outcome'),
    stagedBatches: gauge('staged_batches', 'Batches staged and not delivered.', 'sink'),
    stagedBytes: gauge('staged_bytes', 'Bytes staged and not delivered.', 'sink'),
    stagedAge: gauge('staged_age_seconds', 'Age of the oldest staged batch.', 'sink'),
    ready: gauge('sink_ready', '1 while the last attempt of every lane was applied.', 'sink'),
    freshness: gauge(
      'freshness_seconds',
      'Now minus event time when a sink had answered, of the last minute or two.',
      'sink',
      'quantile',
    ),
    latency: gauge(
      'latency_seconds',
      "From a record's arrival to the sink's answer, of the last minute or two.",
      'sink',
      'quantile',
    ),
  }

  let before: WorkerStatus | undefined
  return (status) => {
    for (const name of ['read', 'deadLetters', 'duplicates', 'late', 'epochs'] as const)
      all[name]({ pipeline }).add(Math.max(0, status[name] - (before?.[name] ?? 0)))
    for (const [at, count] of Object.entries(status.strayKeys))
      strays({ pipeline, at }).add(count - (before?.strayKeys[at] ?? 0))
    for (const [source, now] of Object.entries(status.sources)) {
      ofSource.read({ pipeline, source }).add(now.read - (before?.sources[source]?.read ?? 0))
      ofSource.partitions({ pipeline, source }).set(now.assigned)
      ofSource.paused({ pipeline, source }).set(now.paused ? 1 : 0)
      if (now.lag !== null) ofSource.lag({ pipeline, source, unit: now.unit }).set(now.lag)
    }
    for (const [sink, now] of Object.entries(status.sinks)) {
      const past = before?.sinks[sink]
      for (const name of ['rows', 'batches', 'rejected'] as const)
        ofSink[name]({ pipeline, sink }).add(now[name] - (past?.[name] ?? 0))
      for (const outcome of ['applied', 'rejected', 'notSent', 'unknown'] as const)
        ofSink.outcomes({ pipeline, sink, outcome }).add(now.outcomes[outcome] - (past?.outcomes[outcome] ?? 0))
      ofSink.stagedBatches({ pipeline, sink }).set(now.stagedBatches)
      ofSink.stagedBytes({ pipeline, sink }).set(now.stagedBytes)
      ofSink.stagedAge({ pipeline, sink }).set(now.stagedAge / 1_000)
      ofSink.ready({ pipeline, sink }).set(now.state === 'ready' ? 1 : 0)
      const quantiles = (of: Quantiles, set: typeof ofSink.freshness) => {
        for (const [quantile, value] of Object.entries(of))
          set({ pipeline, sink, quantile: String(Number(quantile.slice(1)) / 100) }).set(
            value === null ? Number.NaN : value / 1_000,
          )
      }
      quantiles(now.recent.freshness, ofSink.freshness)
      quantiles(now.recent.latency, ofSink.latency)
    }
    before = status
  }
}
