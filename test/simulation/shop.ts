import type { RawRecord } from '../../core/source.ts'
import type { Chance } from './chance.ts'
import type { Variant } from './variant.ts'

/** One event of the simulated shop. */
export interface ShopEvent {
  readonly id: string
  readonly who: string
  readonly what: 'view' | 'add' | 'buy'
  /** Event time, epoch milliseconds. */
  readonly at: number
  /** What is wrong with it, if anything. */
  readonly flaw?: Flaw
}

/**
 * `bad`: an operator throws at it. `hangs`: the call that checks it never answers. `kills`: the process that works on it
 * dies. `trips`: an operator throws at it after another branch has made its row. `unfit`: the sink's encoder throws at it.
 * `refused`: the sink's system refuses its row.
 */
export type Flaw = 'bad' | 'hangs' | 'kills' | 'trips' | 'unfit' | 'refused'

/** A record with when it can be read, simulated milliseconds. */
export interface Arrival {
  readonly at: number
  readonly record: RawRecord
  /** Absent when the record does not decode. */
  readonly event: ShopEvent | undefined
  /** 0, or 1 for what comes after the source has ended once. */
  readonly part: number
}

/** What one source has for one partition. */
export type Feed = readonly Arrival[]

/** What all sources have, by partition. */
export interface Input {
  readonly shop: readonly Feed[]
  /** Purchases at a desk. */
  readonly desk: readonly Feed[] | undefined
}

export const WITHIN = 8_000
export const LATENESS = 6_000
/** How long a forgetful dedup knows an id, and how much later than the lateness its repeats come. */
export const MEMORY = 2_000
const OLD = 4_000
/** How far events come out of order, and how long the shop is quiet at most between two of them. */
const DISORDER = 1_000
const QUIET = 1_700
/** Whose mails an operator throws at. */
const CURSED = 4

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

/** What comes to a schedule, of all its sources. */
export function inputOf(random: Chance, variant: Variant, start: number): Input {
  const partitions = Array.from({ length: variant.partitions }, (_, i) => i)
  const killer = variant.killer ? random.one(partitions) : -1
  const shop = partitions.map((i) => arrivals(random, variant, i, start, i === killer))
  return { shop, desk: variant.desk ? partitions.map((i) => purchases(random, variant, i, start)) : undefined }
}

/** Visits, carts, purchases, repeats, disorder, and records that are poison in one way or another. */
function arrivals(random: Chance, variant: Variant, partition: number, start: number, killer: boolean): Arrival[] {
  const { past, asynchronous, forgetful } = variant
  const count = random.whole(1, variant.most)
  const made: Arrival[] = []
  let before: ShopEvent[] = []
  let latest = start - 100_000
  let part = 0
  const people = random.whole(1, 5)
  let clock = start
  const put = (event: ShopEvent | undefined) => {
    const position = made.length
    const text = event ? JSON.stringify(event) : `poison ${partition}/${position}`
    if (event) {
      latest = Math.max(latest, event.at)
      before.push(event)
    }
    made.push({ at: past ? start : clock, event, record: new Raw(position, event, text), part })
  }
  const flaws = (['bad', 'unfit', 'refused', 'trips', ...(asynchronous ? (['hangs'] as const) : [])] as const).map(
    (flaw, i) => [flaw, 0.035 * (i + 1)] as const,
  )
  const cut = variant.grows ? random.whole(0, count) : count
  const killerAt = killer ? random.whole(0, count - 1) : -1
  while (made.length < count) {
    if (variant.grows && part === 0 && made.length >= cut) {
      part = 1
      // what comes after an end is later than all before it: whether waits are over is then plain
      latest += LATENESS + 1
      before = []
    }
    clock += random.yes(0.3) ? random.whole(0, 20) : random.whole(0, QUIET)
    const id = `${partition}/${made.length}`
    if (random.yes(0.05)) put(undefined)
    else if (before.length > 0 && random.yes(forgetful ? 0.3 : 0.15)) {
      const repeat = random.one(before.slice(forgetful ? -12 : -5))
      // a repeat may be too late to be told as one; what bears on waits must not come after they are over
      if (forgetful && random.yes(0.5)) put({ ...repeat, at: timeOfPast(random, latest, before) })
      else if (!past || repeat.at >= latest - LATENESS - (forgetful && repeat.what === 'view' ? OLD : 0)) put(repeat)
    } else if (past && !forgetful && before.length > 0 && made.length + 2 <= count && random.yes(0.1)) {
      // a purchase as late as may be, at the very end of a wait
      const { who, at } = random.one(before)
      const end = at + WITHIN
      if (latest > end + LATENESS) continue
      put({ id, who: `p${partition}-0`, what: 'view', at: end + LATENESS })
      put({ id: `${partition}/${made.length}`, who, what: 'buy', at: end })
    } else {
      const kind = random.next()
      const flaw = made.length === killerAt ? 'kills' : flaws.find(([, below]) => kind < below)?.[0]
      put({
        id,
        who: `p${partition}-${random.whole(1, people)}`,
        what: random.one(['view', 'add', 'add', 'buy']),
        at: past ? timeOfPast(random, latest, before) : clock - random.whole(0, DISORDER),
        ...(flaw ? { flaw } : {}),
      })
    }
  }
  return made
}

/** What the second source has: each in its order, so that only the two together are out of order. */
function purchases(random: Chance, { past, grows }: Variant, partition: number, start: number): Arrival[] {
  let clock = start
  let at = start - 100_000
  return Array.from({ length: random.whole(0, 6) }, (_, position) => {
    clock += random.whole(0, QUIET)
    at = past ? at + random.whole(0, 5_000) : clock
    const event: ShopEvent = {
      id: `d${partition}/${position}`,
      who: `p${partition}-${random.whole(1, 3)}`,
      what: 'buy',
      at,
    }
    const part = grows && position > 3 ? 1 : 0
    return { at: past ? start : clock, event, record: new Raw(position, event, JSON.stringify(event)), part }
  })
}

export function isCursed(who: string): boolean {
  return who.endsWith(`-${CURSED}`)
}

/** What has to come of an input, worked out over all of it at once. */
export interface Expected {
  /** Ids of rows, per partition in their order; with a second source, in any. */
  readonly rows: readonly (readonly string[])[]
  /** `who@when the wait was over, of the person's events so far`. */
  readonly mails: readonly string[]
  /** Records, timers and rows that are set aside: `place where`. */
  readonly letters: readonly string[]
}

export function expected({ shop, desk }: Input, { forgetful }: Variant): Expected {
  const letters: string[] = []
  const mails: string[] = []
  const rows = shop.map((feed, partition) => {
    const ids: string[] = []
    const kept: { event: ShopEvent; part: number; n: number }[] = []
    const known = new Map<string, number>()
    const steps = new Map<string, number>()
    let watermark = Number.NEGATIVE_INFINITY
    const all = [
      ...feed.map((arrival) => ['shop', arrival] as const),
      ...(desk?.[partition] ?? []).map((arrival) => ['desk', arrival] as const),
    ]
    for (const [source, { event, record, part }] of all) {
      const place = `${source} ${partition}/${record.position}`
      if (event === undefined) {
        letters.push(`${place} decode`)
        continue
      }
      const { id, who, at, flaw } = event
      if (flaw !== 'kills') watermark = Math.max(watermark, at - LATENESS)
      const first = known.get(id)
      if (flaw === 'kills') letters.push(`${place} task`)
      else if (flaw === 'bad' || flaw === 'hangs') letters.push(`${place} check`)
      else if (forgetful && at + MEMORY <= watermark) ids.push(`late ${id}`)
      else if (first !== undefined && (!forgetful || first + MEMORY > watermark)) continue
      else if (flaw === 'unfit') letters.push(`${place} rows`)
      else if (flaw === 'trips') letters.push(`${place} tap`)
      else {
        known.set(id, at)
        const n = (steps.get(who) ?? 0) + 1
        steps.set(who, n)
        kept.push({ event, part, n })
        if (flaw === 'refused') letters.push(`refused ${id} rows`)
        else ids.push(id)
      }
    }
    for (const [who, own] of Map.groupBy(kept, ({ event }) => event.who)) {
      for (const [now, adds] of Map.groupBy(
        own.filter(({ event }) => event.what === 'add'),
        ({ part }) => part,
      )) {
        for (const [add, same] of Map.groupBy(adds, ({ event }) => event.at)) {
          const until = add + WITHIN
          const stopped = own.some(
            ({ event: { what, at }, part }) => part <= now && what === 'buy' && at >= add && at <= until,
          )
          const again = adds.some(({ event: { at } }) => at > add && at <= until)
          if (stopped || again) continue
          if (isCursed(who)) letters.push(`timer ${who}@${until}`)
          else mails.push(desk ? `${who}@${until}` : `${who}@${until}, ${same.at(-1)!.n}`)
        }
      }
    }
    return ids
  })
  return { rows, mails, letters }
}
