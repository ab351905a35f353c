export type { Duration, Size } from './duration.ts'
export { ERROR_CODES, type ErrorCode, MillraceError } from './errors.ts'
export type { Group, GroupMember, GroupRecord } from './group.ts'
export type { Logger } from './logger.ts'
export { createMetrics, type Metrics } from './metrics.ts'
export type { AsyncMeta, Key, Keyed, Meta, Named, Operator, OperatorDefinition } from './operator.ts'
export { isPipeline, type Pipeline, type PipelineOptions, pipeline } from './pipeline.ts'
export { type Runtime, systemRuntime } from './runtime.ts'
export type { Delivery, Encoder, Guarantee, OpenSink, Outcome, RowMeta, RowRejection, Sink } from './sink.ts'
export type { ConnectorContext, OpenSource, RawRecord, Reader, ReadFrom, Source } from './source.ts'
export { operate } from './standalone.ts'
export type { ExpiringSet, StateDeclaration, Table, Timer, Timers } from './state.ts'
export type { SinkStatus, SourceStatus, WorkerStatus } from './status.ts'
export type { Store } from './store.ts'
export {
  type LaneOptions,
  merge,
  type Output,
  type SourceOptions,
  type SourceStream,
  type Stream,
  stream,
} from './stream.ts'
export { startWorker, type Worker, type WorkerOptions } from './worker.ts'
