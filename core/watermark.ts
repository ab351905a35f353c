import { type Mark, watermarkOf } from './channel.ts'

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
  /** Of a channel: how far each task of the stage before says that it has come; undefined before its first word. */
  marks?: (Mark | undefined)[]
}

/** A clock before the first record; `producers` is how many tasks feed it, where it is a channel. */
export function newSourceClock(producers?: number): SourceClock {
  return {
    maxTime: Number.NEGATIVE_INFINITY,
    watermark: Number.NEGATIVE_INFINITY,
    lastArrival: 0,
    sealed: false,
    ...(producers === undefined ? {} : { marks: new Array<undefined>(producers).fill(undefined) }),
  }
}

export function copyClock(clock: SourceClock): SourceClock {
  return clock.marks ? { ...clock, marks: [...clock.marks] } : { ...clock }
}

/** Whether a source that is at its head, if it is, says nothing of event time: no record ever came. */
export function isSilent(clock: SourceClock, atHead: boolean): boolean {
  if (clock.marks) return clock.marks.every((mark) => mark === 'idle')
  return clock.maxTime === Number.NEGATIVE_INFINITY && atHead
}

/** Takes in what a producer says of itself: a channel has come as far as the last of its producers. */
export function noteMark(clock: SourceClock, producer: number, mark: Mark): void {
  const { marks } = clock
  if (!marks || producer >= marks.length) return
  const before = marks[producer]
  if (before === mark) return
  if (before !== undefined) {
    // a repeat, or an older word of a former life, takes nothing back
    const [old, now] = [watermarkOf(before), watermarkOf(mark)]
    if (now === undefined || (old !== undefined && old > now)) return
  }
  marks[producer] = mark
  let lowest = Number.POSITIVE_INFINITY
  let heard = false
  for (const each of marks) {
    if (each === undefined) return
    const watermark = watermarkOf(each)
    if (watermark === undefined) continue
    heard = true
    if (watermark < lowest) lowest = watermark
  }
  if (heard && lowest > clock.watermark) clock.watermark = lowest
}

/**
 * Where a source that is read to its head stands at `now`: it moves with the task's clock. A channel does not: whoever
 * feeds it moves, and says so.
 */
export function idleWatermark(clock: SourceClock, lateness: number, now: number): number {
  if (clock.sealed) return Number.POSITIVE_INFINITY
  if (clock.marks) return isSilent(clock, true) ? Number.POSITIVE_INFINITY : clock.watermark
  if (clock.maxTime === Number.NEGATIVE_INFINITY) return Number.POSITIVE_INFINITY
  return Math.max(clock.watermark, clock.maxTime - lateness + Math.max(0, now - clock.lastArrival))
}

/** When, by the task's clock, a source at its head will have moved past `time`. */
export function idleUntil(clock: SourceClock, lateness: number, time: number): number {
  if (clock.marks) return clock.watermark > time || isSilent(clock, true) ? 0 : Number.POSITIVE_INFINITY
  if (clock.watermark > time || clock.maxTime === Number.NEGATIVE_INFINITY) return 0
  return time - clock.maxTime + lateness + clock.lastArrival + 1
}
