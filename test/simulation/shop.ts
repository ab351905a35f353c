import type { RawRecord } from '../../core/source.ts'
import type { Chance } from './chance.ts'

/** One event of the simulated shop. */
export interface ShopEvent {
  readonly id: string
  readonly who: string
  readonly what: 'view' | 'add' | 'buy'
  /** Event time, epoch milliseconds. */
  readonly at: number
  /** The operator throws at it. */
  readonly bad?: true
  /** An operator throws at it after another branch has made its row. */
  readonly trips?: true
  /** The sink's encoder throws at it. */
  readonly unfit?: true
  /** The sink's system refuses its row. */
  readonly refused?: true
}

/** A record with when it can be read, simulated milliseconds. */
export interface Arrival {
  readonly at: number
  readonly record: RawRecord
  /** Absent when the record does not decode. */
  readonly event: ShopEvent | undefined
}

export const WITHIN = 8_000
export const LATENESS = 6_000
/** How far events come out of order, and how long the shop is quiet at most between two of them. */
const DISORDER = 1_000
const QUIET = 1_700

/** A time that is just not late; often one at which a wait begins or is over. */
function timeOfPast(random: Chance, latest: number, before: readonly ShopEvent[]): number {
  const tie = before.length > 0 ? random.one(before).at + random.one([0, WITHIN, WITHIN + 1, WITHIN - 1, LATENESS]) : 0
  if (tie >= latest - LATENESS && tie < latest + 10_000 && random.yes(0.5)) return tie
  return random.yes(0.2) ? latest - LATENESS : latest + random.whole(-LATENESS, 3_000)
}

class Raw implements RawRecord {
  readonly position: number
  readonly next: number
  readonly value: unknown
  private readonly text: string

  constructor(position: number, value: unknown, text: string) {
    this.position = position
    this.next = position + 1
    this.value = value
    this.text = text
  }

  bytes(): Uint8Array {
    return Buffer.from(this.text)
  }
}

/**
 * What comes to one partition: visits, carts, purchases, repeats, disorder, and records that are poison in one way or
 * another.
 *
 * @param past all of it is there from the beginning, and as far out of order as the lateness allows; else it comes as time
 * goes by, out of order by less, since a source that is quiet moves on with the clock
 */
export function arrivals(random: Chance, partition: number, count: number, start: number, past: boolean): Arrival[] {
  const made: Arrival[] = []
  const before: ShopEvent[] = []
  let latest = start - 100_000
  const people = random.whole(1, 4)
  let clock = start
  const poison = () => {
    const position = made.length
    made.push({
      at: past ? start : clock,
      event: undefined,
      record: new Raw(position, undefined, `poison ${partition}/${position}`),
    })
  }
  const give = (event: ShopEvent) => {
    const position = made.length
    latest = Math.max(latest, event.at)
    before.push(event)
    made.push({ at: past ? start : clock, event, record: new Raw(position, event, JSON.stringify(event)) })
  }
  while (made.length < count) {
    clock += random.yes(0.3) ? random.whole(0, 20) : random.whole(0, QUIET)
    const id = `${partition}/${made.length}`
    if (random.yes(0.05)) poison()
    else if (before.length > 0 && random.yes(0.15)) {
      const repeat = random.one(before.slice(-5))
      // a repeat may be too late to be told as one
      if (!past || repeat.at >= latest - LATENESS) give(repeat)
    } else if (past && before.length > 0 && random.yes(0.1)) {
      // a purchase as late as may be, at the very end of a wait
      const { who, at } = random.one(before)
      const end = at + WITHIN
      if (latest > end + LATENESS) continue
      give({ id, who: `p${partition}-0`, what: 'view', at: end + LATENESS })
      give({ id: `${partition}/${made.length}`, who, what: 'buy', at: end })
    } else {
      const kind = random.next()
      give({
        id,
        who: `p${partition}-${random.whole(1, people)}`,
        what: random.one(['view', 'add', 'add', 'buy']),
        at: past ? timeOfPast(random, latest, before) : clock - random.whole(0, DISORDER),
        ...(kind < 0.04
          ? { bad: true }
          : kind < 0.07
            ? { unfit: true }
            : kind < 0.1
              ? { refused: true }
              : kind < 0.13
                ? { trips: true }
                : {}),
      })
    }
  }
  return made
}

/** What has to come of it, worked out over all of it at once. */
export interface Expected {
  /** Ids of rows, per partition in their order. */
  readonly rows: readonly (readonly string[])[]
  /** `who@when the wait was over`. */
  readonly mails: readonly string[]
  /** Records, and rows, that are set aside: `place where`. */
  readonly letters: readonly string[]
  readonly duplicates: number
}

/** @param partitions in the order in which each is read */
export function expected(partitions: readonly (readonly Arrival[])[]): Expected {
  const letters: string[] = []
  const kept: ShopEvent[] = []
  let duplicates = 0
  const rows = partitions.map((all) => {
    const seen = new Set<string>()
    const ids: string[] = []
    for (const { event, record } of all) {
      if (event === undefined) letters.push(`shop ${record.position} decode`)
      else if (event.bad) letters.push(`shop ${record.position} check`)
      else if (seen.has(event.id)) duplicates++
      else if (event.unfit) letters.push(`shop ${record.position} rows`)
      else if (event.trips) letters.push(`shop ${record.position} steps`)
      else {
        seen.add(event.id)
        kept.push(event)
        if (event.refused) letters.push(`refused ${event.id} rows`)
        else ids.push(event.id)
      }
    }
    return ids
  })
  const mails: string[] = []
  for (const who of new Set(kept.map((event) => event.who))) {
    const own = kept.filter((event) => event.who === who)
    const adds = [...new Set(own.filter(({ what }) => what === 'add').map(({ at }) => at))]
    for (const add of adds) {
      const stopped = own.some(({ what, at }) => what === 'buy' && at >= add && at <= add + WITHIN)
      const again = adds.some((other) => other > add && other <= add + WITHIN)
      if (!stopped && !again) mails.push(`${who}@${add + WITHIN}`)
    }
  }
  return { rows, mails: mails.sort(), letters: letters.sort(), duplicates }
}
