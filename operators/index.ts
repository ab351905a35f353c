export { type AbsenceOptions, type Absent, absence } from './absence.ts'
export { type DedupOptions, dedup } from './dedup.ts'
export { type EventTimeOptions, eventTime } from './event-time.ts'
export { filter } from './filter.ts'
export { flatMap } from './flat-map.ts'
export { type HoppingOptions, hopping } from './hopping.ts'
export { type JoinKind, type JoinOptions, join } from './join.ts'
export { type JoinAsOfOptions, joinAsOf } from './join-as-of.ts'
export { type JoinLatestOptions, joinLatest } from './join-latest.ts'
export type { Joined } from './joins/join-options.ts'
export { keyBy } from './key-by.ts'
export { type LatestOptions, latest } from './latest.ts'
export { map } from './map.ts'
export { type AsyncOptions, mapAsync } from './map-async.ts'
export { type Patch, type PatchOptions, patch } from './patch.ts'
export { type Rated, type RateOfOptions, rateOf } from './rate-of.ts'
export {
  type Fields,
  type FromSource,
  type Reconciled,
  type ReconcileOptions,
  type Rejection,
  type Rule,
  reconcile,
} from './reconcile.ts'
export { type RepartitionOptions, repartition } from './repartition.ts'
export { type Routed, route } from './route.ts'
export { type SampleOptions, sample } from './sample.ts'
export { type ScanOptions, scan } from './scan.ts'
export { type Matched, type SequenceOptions, sequence } from './sequence.ts'
export { type SeriesOptions, type Step, series } from './series.ts'
export { type SessionOptions, session } from './session.ts'
export { type Sessioned, type SessionizeOptions, sessionize } from './sessionize.ts'
export { tap } from './tap.ts'
export { type ThrottleOptions, throttle } from './throttle.ts'
export { type TumblingOptions, tumbling } from './tumbling.ts'
export type { Aggregator, Aggregators } from './windows/aggregators.ts'
export type { WindowOptions } from './windows/aligned.ts'
export type { Late, Windowed } from './windows/tally.ts'
