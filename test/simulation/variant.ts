import type { Guarantee } from '../../core/sink.ts'
import type { Chance } from './chance.ts'

/** What a system is like that takes batches. */
export interface SystemKind {
  readonly guarantee: Guarantee
  /** It takes several batches in one request. */
  readonly grouped: boolean
  /** Most rows of a batch. */
  readonly most: number | undefined
  /**
   * How it tells repeats: by the names of batches; by a key in each row, as a provider of mails does; or, as a file, not at
   * all: it is cut back to the receipt of what was answered for.
   */
  readonly repeats: 'by name' | 'by key' | 'by receipt'
  /** Of a batch with rows that it refuses, it takes the others. */
  readonly partial: boolean
}

/** What is so throughout one schedule. */
export interface Variant {
  readonly partitions: number
  /** Everything is there from the beginning, as far out of order as the lateness allows; else it comes as time goes by. */
  readonly past: boolean
  /** Most records of a partition. */
  readonly most: number
  /** A second source brings purchases. */
  readonly desk: boolean
  /** The sources end, are grown, and are read on with `reopen`. */
  readonly grows: boolean
  /** A record is checked by a call that takes its time. */
  readonly asynchronous: boolean
  /** The dedup forgets ids while repeats of them still come. */
  readonly forgetful: boolean
  readonly epoch: { readonly records: number; readonly bytes: number }
  readonly rows: SystemKind
  readonly mails: SystemKind
  /** Bound of each lane, and what happens there. */
  readonly lane: { readonly bytes: number; readonly whenFull: 'pause' | 'park' } | undefined
  /** An old copy of the store may be put back. */
  readonly putBack: boolean
  /** Other workers may start beside one that still works. */
  readonly zombies: boolean
  /** One record kills whoever works on it. */
  readonly killer: boolean
  /** How likely it is, at each turn, that a system is down for a while, or the disk full. */
  readonly outages: number
  readonly full: number
  /** How far the clock may jump, to and fro, milliseconds. */
  readonly jumps: number
}

export function variant(random: Chance): Variant {
  const past = random.yes(0.55)
  const grows = past && random.yes(0.2)
  const receipts = random.yes(0.3)
  const lane = random.yes(0.2)
  const killer = random.yes(0.05)
  const desk = random.yes(0.15)
  return {
    partitions: random.one([1, 1, 1, 2, 3]),
    past,
    most: lane ? 32 : random.one([8, 12, 30, 30]),
    desk,
    grows,
    asynchronous: random.yes(0.3),
    forgetful: past && !grows && !desk && random.yes(0.3),
    epoch: lane
      ? { records: random.whole(1, 3), bytes: 1 }
      : { records: random.one([1, 1, 1, 2, 7, 50]), bytes: random.one([1, 200, 1_000_000]) },
    rows: {
      guarantee: receipts ? 'idempotent' : random.one(['idempotent', 'idempotent', 'windowed']),
      grouped: random.yes(0.6),
      most: random.yes(0.5) ? random.whole(1, 5) : undefined,
      repeats: receipts ? 'by receipt' : 'by name',
      partial: !receipts && random.yes(0.3),
    },
    mails: {
      guarantee: random.one(['idempotent', 'ledger']),
      grouped: random.yes(0.3),
      most: undefined,
      repeats: random.one(['by name', 'by key', 'by key']),
      partial: false,
    },
    lane: lane ? { bytes: 400, whenFull: random.one(['pause', 'park']) } : undefined,
    putBack: random.yes(0.4),
    zombies: !receipts && random.yes(0.6),
    killer,
    outages: lane ? 0.05 : 0.005,
    full: receipts ? 0.06 : 0.004,
    jumps: past ? random.one([0, 0, 3_600_000]) : random.one([0, 20_000]),
  }
}
