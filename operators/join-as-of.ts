import { type Duration, milliseconds } from '../core/duration.ts'
import { type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'
import { checkJoin, type Joined, type JoinNamed, type Maybe, type Right } from './joins/join-options.ts'

export interface JoinAsOfOptions<K extends 'inner' | 'left', L = any, R = any> extends JoinNamed<L, R> {
  /** How long a right record counts, if no later one takes its place. */
  history: Duration
  /** `left` gives a left record for which there was none with `right: null`. @default 'inner' */
  kind?: K
}

type Kept = readonly [time: number, value: unknown]

/**
 * Gives each left record with the right one that was valid at its event time: an order with the price of that moment.
 *
 * A right record is valid from its event time, that moment included, until the next one of its key, and for `history` at
 * most. It goes by event time, in whatever order records arrive: a left record waits until the watermark has passed its
 * time, so that all right ones before it are there; one that comes later is answered at once, from what is known then; one
 * that is older than all that is kept goes to the side stream `late`, counted. Of right records with one time, the one
 * that came last counts. State: the right records of the last `history`, and the left ones that wait, a key.
 *
 * @example
 * ```ts
 * const prices = of({ at: 0, eur: 5 }, { at: 60_000, eur: 6 }).pipe(eventTime((e) => e.at))
 * const orders = of({ at: 59_999, n: 1 }, { at: 60_000, n: 2 }).pipe(eventTime((e) => e.at))
 * const priced = joinAsOf(prices, { history: '90d', on: { left: (_: { n: number }) => 'book', right: () => 'book' } })
 * await lastValueFrom(orders.pipe(priced, rxMap(({ left, right }) => [left.n, right.eur]), toArray())) // => [[1, 5], [2, 6]]
 * ```
 */
export function joinAsOf<L, R, const K extends 'inner' | 'left' = 'inner'>(
  right: Right<R>,
  options: JoinAsOfOptions<K, L, R>,
): Operator<L, Joined<L, Maybe<R, K, 'left'>>, { late: L }> {
  const { name = 'joinAsOf', on, kind = 'inner' } = options
  const where = `joinAsOf "${name}"`
  checkJoin(where, right, on, kind, ['inner', 'left'])
  const history = milliseconds(options.history, `${where}: history`)
  return operate<
    L,
    Joined<L, Maybe<R, K, 'left'>>,
    {
      lefts: { kind: 'table'; ttl: number }
      rights: { kind: 'table'; ttl: number }
      asked: { kind: 'timers'; clock: 'event' }
    },
    { late: L }
  >({
    kind: 'joinAsOf',
    name,
    keyed: on ? 'by' : 'stream',
    right,
    state: {
      lefts: { kind: 'table', ttl: 1 },
      rights: { kind: 'table', ttl: 2 * history + 1 },
      asked: { kind: 'timers', clock: 'event' },
    },
    sides: ['late'],
    start({ state: { lefts, rights, asked }, clock, emit, side, count }) {
      const answer = (key: string, time: number, value: L) => {
        const list = (rights.get(key) as readonly Kept[] | undefined) ?? []
        const valid = list.findLast(([from]) => from <= time && from + history > time)
        if (valid !== undefined || kind === 'left')
          emit({ left: value, right: (valid?.[1] ?? null) as Maybe<R, K, 'left'> })
      }
      const placed = (list: readonly Kept[], one: Kept): readonly Kept[] => {
        let at = list.length
        while (at > 0 && list[at - 1]![0] > one[0]) at--
        return list.toSpliced(at, 0, one)
      }
      return {
        next(value, meta) {
          const { time } = meta
          if (time + history < clock.watermark) {
            count('late')
            side('late', value)
            return
          }
          const key = stateKey(on?.left, value, meta)
          if (time < clock.watermark) {
            answer(key, time, value)
            return
          }
          const list = placed((lefts.get(key) as readonly Kept[] | undefined) ?? [], [time, value])
          lefts.set(key, list, list.at(-1)![0])
          asked.set(key, time)
        },
        right(value: R, meta) {
          const key = stateKey(on?.right, value, meta)
          const list = (rights.get(key) as readonly Kept[] | undefined) ?? []
          const all = placed(list, [meta.time, value])
          // what is valid at no time that may still be asked for can go
          const oldest = clock.watermark - history
          let first = 0
          while (first + 1 < all.length && all[first + 1]![0] <= oldest) first++
          if (all[first]![0] + history <= oldest) first++
          const kept = first === 0 ? all : all.slice(first)
          if (kept.length === 0) return
          rights.set(key, kept, kept.at(-1)![0])
        },
        due({ key, time }) {
          const list = (lefts.get(key) as readonly Kept[] | undefined) ?? []
          const rest = list.filter(([at]) => at > time)
          if (rest.length === 0) lefts.delete(key)
          else lefts.set(key, rest, rest.at(-1)![0])
          for (const [at, value] of list) if (at === time) answer(key, time, value as L)
        },
      }
    },
  })
}
