/** How far a source of a task has come in event time (engine rule 3). */
export interface SourceClock {
  /** The largest event time seen; minus infinity before the first. */
  maxTime: number
  /** No older event is expected from it. */
  watermark: number
  /** When its last record arrived, epoch milliseconds of the task's clock. */
  lastArrival: number
  /** It ended at its position. */
  sealed: boolean
}

/** A clock before the first record. */
export function newSourceClock(): SourceClock {
  return { maxTime: Number.NEGATIVE_INFINITY, watermark: Number.NEGATIVE_INFINITY, lastArrival: 0, sealed: false }
}

/** Where a source that is read to its head stands at `now`: it moves with the task's clock. */
export function idleWatermark(clock: SourceClock, lateness: number, now: number): number {
  if (clock.sealed) return Number.POSITIVE_INFINITY
  if (clock.maxTime === Number.NEGATIVE_INFINITY) return Number.POSITIVE_INFINITY
  return Math.max(clock.watermark, clock.maxTime - lateness + Math.max(0, now - clock.lastArrival))
}

/** When, by the task's clock, a source at its head will have moved past `time`. */
export function idleUntil(clock: SourceClock, lateness: number, time: number): number {
  if (clock.watermark > time || clock.maxTime === Number.NEGATIVE_INFINITY) return 0
  return time - clock.maxTime + lateness + clock.lastArrival + 1
}
