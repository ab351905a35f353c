import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'

/** One event of the shop, as its lines hold it. */
export interface ShopEvent {
  /** Equal for redeliveries of one event, and for nothing else. */
  readonly eventId: string
  readonly visitorId: string
  readonly type: 'view' | 'addtocart' | 'transaction'
  readonly itemId: string
  readonly transactionId: string | null
  /** Epoch milliseconds. */
  readonly occurredAt: number
}

export interface ShopOptions {
  /** The same seed gives the same lines, everywhere. */
  seed: number
  /** Lines to give, repeats and malformed ones among them. @default no end */
  events?: number
  /** When the first event is, epoch milliseconds. @default 2026-01-05 00:00 UTC */
  start?: number
  /** Events a day, on average: few in the night, many in the evening. @default 100,000 */
  perDay?: number
  /** How many people there are; a few of them come often. @default 50,000 */
  visitors?: number
  /** How many items the catalogue has; a few of them are seen often. @default 2,000 */
  items?: number
  /** The part of the events that is delivered twice, within 30 s. @default 0.02 */
  repeats?: number
  /** The part of the events that comes late, by up to 30 s. @default 0.05 */
  disorder?: number
  /** The part of the lines that is not a valid event. @default 0.0025 */
  malformed?: number
  /** Gives visitor ids that no other partition gives. @default 0 of 1 */
  partition?: { readonly index: number; readonly of: number }
}

const DAY = 86_400_000
const HOUR = 3_600_000
const LONGEST_DELAY = 30_000
const FIRST_CART = 0.0145
/** Who has put one thing into the cart soon puts in another. */
const FURTHER_CART = 0.4
const PURCHASE_AFTER_CART = 0.29
const LEAVES = 0.28
const LEAVES_WITH_CART = 0.12
const EVENTS_A_SESSION = 3.5
/** By the hour of the day in UTC: how many visits begin when those of the busiest hour are 1. */
const TRAFFIC: readonly number[] = [
  0.3, 0.2, 0.14, 0.1, 0.08, 0.1, 0.16, 0.28, 0.42, 0.52, 0.58, 0.62, 0.64, 0.6, 0.58, 0.6, 0.66, 0.76, 0.88, 0.97, 1,
  0.95, 0.74, 0.48,
]
const MEAN_TRAFFIC = TRAFFIC.reduce((sum, part) => sum + part, 0) / TRAFFIC.length
const MALFORMED_KINDS = 5

interface Session {
  at: number
  readonly visitorId: string
  item: number
  next: 'view' | 'addtocart' | 'transaction'
  cart: boolean
}

interface Delayed {
  readonly at: number
  readonly line: string
}

/**
 * The event lines of a shop that does not exist: visits that follow the hours of the day, views that lead to carts
 * (about 2.8 % of events) and some carts to purchases (about 0.8 %), so that most are abandoned; redeliveries, disorder
 * of up to 30 s, and lines that are no valid event. Memory is bounded by the visits and delays that are open at once.
 *
 * @throws MillraceError BAD_OPTION when an option is not of the form that is wanted
 */
export function generateShop(options: ShopOptions): Iterable<string> {
  checkShop(options)
  return { [Symbol.iterator]: () => lines(options) }
}

/** @throws MillraceError BAD_OPTION */
export function checkShop(options: ShopOptions): void {
  const wrong = (option: string, wanted: string) => {
    const got = shown(options[option as keyof ShopOptions])
    throw new MillraceError('BAD_OPTION', `shop: ${option} must be ${wanted}, got ${got}`)
  }
  if (!Number.isSafeInteger(options.seed)) wrong('seed', 'a whole number')
  for (const option of ['events', 'start', 'visitors', 'items'] as const) {
    const { [option]: value = 1 } = options
    if (!Number.isSafeInteger(value) || value < 1) wrong(option, 'a positive whole number')
  }
  if (!(options.perDay === undefined || (options.perDay > 0 && options.perDay <= 1e10)))
    wrong('perDay', 'a positive number')
  for (const option of ['repeats', 'disorder', 'malformed'] as const) {
    const { [option]: value = 0 } = options
    if (!(value >= 0 && value <= 0.5)) wrong(option, 'a part from 0 to 0.5')
  }
}

function* lines({
  seed,
  events = Number.POSITIVE_INFINITY,
  start = 1_767_571_200_000,
  perDay = 100_000,
  visitors = 50_000,
  items = 2_000,
  repeats = 0.02,
  disorder = 0.05,
  malformed = 0.0025,
  partition = { index: 0, of: 1 },
}: ShopOptions): Generator<string, void> {
  const random = generator(seed, partition.index)
  const scramble = mix(seed | 0)
  const own = Math.ceil(visitors / partition.of)
  const logItems = Math.log(items + 1)
  const busiest = perDay / DAY / EVENTS_A_SESSION / MEAN_TRAFFIC / partition.of
  const sessions = heap<Session>()
  const delayed = heap<Delayed>()
  let opens = start
  let given = 0
  let made = 0
  let sales = 0

  // Popularity falls with the rank, as Zipf has it: the logarithm of the rank is evenly spread.
  const item = () => Math.min(items, Math.floor(Math.exp(random() * logItems))) - 1
  const pause = (mean: number) => Math.ceil(-Math.log(1 - random()) * mean)
  const nextVisit = (from: number) => {
    let at = from
    do at += -Math.log(1 - random()) / busiest
    while (random() >= TRAFFIC[Math.floor(at / HOUR) % 24]!)
    return at
  }
  const visitorId = () => {
    const u = random()
    return (mix(Math.floor(u * u * own) * partition.of + partition.index + scramble) >>> 0).toString(36)
  }
  opens = nextVisit(opens)

  while (given < events) {
    while (sessions.top === undefined || opens <= sessions.top.at) {
      sessions.push({ at: Math.floor(opens), visitorId: `v${visitorId()}`, item: item(), next: 'view', cart: false })
      opens = nextVisit(opens)
    }
    const session = sessions.top
    const { at, next } = session
    while (delayed.top !== undefined && delayed.top.at <= at) {
      yield delayed.pop()!.line
      if (++given === events) return
    }
    const number = made++ * partition.of + partition.index
    const eventId = hex(mix(number ^ scramble)) + hex(mix(number + 0x9e3779b9) ^ scramble)
    const transaction =
      next === 'transaction' ? `"t${partition.of === 1 ? '' : `${partition.index}-`}${++sales}"` : 'null'
    const line = `{"eventId":"${eventId}","visitorId":"${session.visitorId}","type":"${next}","itemId":"i${session.item}","transactionId":${transaction},"occurredAt":${at}}`
    if (random() < disorder) {
      delayed.push({ at: at + 1 + random() * LONGEST_DELAY, line })
    } else {
      yield line
      if (++given === events) return
    }
    if (random() < repeats) delayed.push({ at: at + 1 + random() * LONGEST_DELAY, line })
    if (random() < malformed) {
      yield spoil(line, Math.floor(random() * MALFORMED_KINDS))
      if (++given === events) return
    }

    const luck = random()
    if (next === 'view' && luck < (session.cart ? FURTHER_CART : FIRST_CART)) {
      session.next = 'addtocart'
      session.cart = true
      session.at = at + pause(40_000)
    } else if (next === 'addtocart' && luck < PURCHASE_AFTER_CART) {
      session.next = 'transaction'
      // Most buy at once; some come back when they have been reminded.
      session.at = at + pause(luck < PURCHASE_AFTER_CART * 0.85 ? 240_000 : 2_400_000)
    } else if (next !== 'transaction' && luck < 1 - (session.cart ? LEAVES_WITH_CART : LEAVES)) {
      session.next = 'view'
      session.item = item()
      session.at = at + pause(45_000)
    } else {
      sessions.pop()
      continue
    }
    sessions.sink()
  }
}

/** A line that is no valid event: one of five kinds. */
function spoil(line: string, kind: number): string {
  if (kind === 0) return line.slice(0, line.length >>> 1)
  if (kind === 1) return line.replace(/"occurredAt":(\d+)/, '"occurredAt":"$1"')
  if (kind === 2) return line.replace(/"visitorId":"[^"]*",/, '')
  if (kind === 3) return line.replace(/"type":"[^"]*"/, '"type":"hover"')
  return line.replace(/"occurredAt":/, '"occurredAt":-')
}

/** A source of numbers from 0 up to, and not, 1: sfc32, the same on every machine. */
function generator(seed: number, stream: number): () => number {
  const state = Int32Array.of(seed | 0, Math.floor(seed / 4_294_967_296) | 0, stream | 0, 1)
  const random = () => {
    const a = state[0]!
    const b = state[1]!
    const c = state[2]!
    const d = state[3]!
    const t = (((a + b) | 0) + d) | 0
    state[3] = d + 1
    state[0] = b ^ (b >>> 9)
    state[1] = c + (c << 3)
    state[2] = ((c << 21) | (c >>> 11)) + t
    return (t >>> 0) / 4_294_967_296
  }
  for (let i = 0; i < 15; i++) random()
  return random
}

/** A bijection of 32-bit numbers that leaves no pattern. */
function mix(value: number): number {
  let h = value | 0
  h = Math.imul(h ^ (h >>> 16), 0x21f0aaad)
  h = Math.imul(h ^ (h >>> 15), 0x735a2d97)
  return h ^ (h >>> 15)
}

/** All texts of four hexadecimal digits. */
const HEX = Array.from({ length: 65_536 }, (_, n) => n.toString(16).padStart(4, '0'))

function hex(value: number): string {
  return HEX[value >>> 16]! + HEX[value & 0xffff]!
}

/** A binary heap by `at`; of equal ones, in no order but the same at every run. */
function heap<T extends { readonly at: number }>() {
  const all: T[] = []
  const sink = () => {
    const value = all[0]!
    let i = 0
    for (let child = 1; child < all.length; child = 2 * i + 1) {
      if (child + 1 < all.length && all[child + 1]!.at < all[child]!.at) child++
      if (all[child]!.at >= value.at) break
      all[i] = all[child]!
      i = child
    }
    all[i] = value
  }
  return {
    get top(): T | undefined {
      return all[0]
    },
    push(value: T) {
      let i = all.length
      all.push(value)
      for (; i > 0 && all[(i - 1) >>> 1]!.at > value.at; i = (i - 1) >>> 1) all[i] = all[(i - 1) >>> 1]!
      all[i] = value
    },
    pop(): T | undefined {
      const first = all[0]
      const last = all.pop()
      if (all.length > 0) {
        all[0] = last!
        sink()
      }
      return first
    },
    /** Brings the top to its place after its time was changed. */
    sink,
  }
}

const KINDS = [
  'Jacket',
  'Lamp',
  'Kettle',
  'Backpack',
  'Notebook',
  'Teapot',
  'Scarf',
  'Chair',
  'Mug',
  'Headphones',
  'Boots',
  'Clock',
] as const
const LOOKS = [
  'Linen',
  'Oak',
  'Copper',
  'Blue',
  'Woven',
  'Grey',
  'Glass',
  'Green',
  'Leather',
  'Small',
  'Folding',
  'White',
] as const
const MAKERS = ['Alder', 'Brook', 'Cove', 'Dune', 'Elm', 'Fjord', 'Grove', 'Heath'] as const

/** The catalogue's page of an item: the same for an id, everywhere. Prices are in the shop's currency. */
export function shopItem(itemId: string): { id: string; title: string; price: number } {
  const h = mix(Number.parseInt(itemId.slice(1), 10)) >>> 0
  const title = `${MAKERS[h % 8]} ${LOOKS[(h >>> 3) % 12]} ${KINDS[(h >>> 8) % 12]}`
  return { id: itemId, title, price: 4 + ((h >>> 12) % 19_600) / 100 }
}
