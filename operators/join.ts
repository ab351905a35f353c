import { type Duration, milliseconds } from '../core/duration.ts'
import { type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'
import { checkJoin, type Joined, type JoinNamed, type Maybe, type Right } from './joins/join-options.ts'

export type JoinKind = 'inner' | 'left' | 'outer'

export interface JoinOptions<K extends JoinKind, L = any, R = any> extends JoinNamed<L, R> {
  /** How long before the left record the right one may be. @default '0s' */
  before?: Duration
  /** How long after the left record the right one may be. @default '0s' */
  after?: Duration
  /** `left` gives a left record that met none with `right: null`, `outer` a right one, too. @default 'inner' */
  kind?: K
}

/** A record that is there to be met: when it happened, whether it has met one, and itself. */
type Kept = readonly [time: number, met: boolean, value: unknown]

/**
 * Gives each pair of a left and a right record of one key that happened close to one another: a click and the order that
 * came of it.
 *
 * The right record may be up to `before` earlier than the left one, and up to `after` later, both ends included, in event
 * time and in whatever order they arrive; a pair is given when the second one arrives, with its event time. With `left`
 * and `outer`, a record that met none is given when the watermark has passed the last moment that it could have, once. A
 * record that comes when that moment is over goes to the side stream `late`, counted. State: the records of both sides, a
 * key, for as long as they can still be met.
 *
 * @example
 * ```ts
 * const clicks = of({ at: 0, link: 'sale' }).pipe(eventTime((e) => e.at))
 * const orders = of({ at: 60_000, eur: 30 }).pipe(eventTime((e) => e.at))
 * const led = join(orders, { after: '2h', on: { left: (_: { link: string }) => 'ann', right: () => 'ann' } })
 * await lastValueFrom(clicks.pipe(led, rxMap(({ left, right }) => [left.link, right.eur]), toArray())) // => [['sale', 30]]
 * ```
 */
export function join<L, R, const K extends JoinKind = 'inner'>(
  right: Right<R>,
  options: JoinOptions<K, L, R>,
): Operator<L, Joined<Maybe<L, K, 'outer'>, Maybe<R, K, 'left' | 'outer'>>, { late: L | R }> {
  const { name = 'join', on, kind = 'inner' } = options
  const where = `join "${name}"`
  checkJoin(where, right, on, kind, ['inner', 'left', 'outer'])
  const before = milliseconds(options.before ?? '0s', `${where}: before`, { zero: true })
  const after = milliseconds(options.after ?? '0s', `${where}: after`, { zero: true })
  type Pair = Joined<Maybe<L, K, 'outer'>, Maybe<R, K, 'left' | 'outer'>>

  return operate<
    L,
    Pair,
    {
      lefts: { kind: 'table'; ttl: number }
      rights: { kind: 'table'; ttl: number }
      leftEnds: { kind: 'timers'; clock: 'event' }
      rightEnds: { kind: 'timers'; clock: 'event' }
    },
    { late: L | R }
  >({
    kind: 'join',
    name,
    keyed: on ? 'by' : 'stream',
    right,
    state: {
      lefts: { kind: 'table', ttl: after + 1 },
      rights: { kind: 'table', ttl: before + 1 },
      leftEnds: { kind: 'timers', clock: 'event' },
      rightEnds: { kind: 'timers', clock: 'event' },
    },
    sides: ['late'],
    start({ state: { lefts, rights, leftEnds, rightEnds }, clock, emit, side, count }) {
      const left = {
        of: lefts,
        ends: leftEnds,
        waits: after,
        mayMeet: (time: number, other: number) => other >= time - before && other <= time + after,
        tells: kind !== 'inner',
        pair: (own: unknown, other: unknown) => ({ left: own, right: other }) as Pair,
      }
      const its: typeof left = {
        of: rights,
        ends: rightEnds,
        waits: before,
        mayMeet: (time, other) => left.mayMeet(other, time),
        tells: kind === 'outer',
        pair: (own, other) => ({ left: other, right: own }) as Pair,
      }
      const read = (table: typeof lefts, key: string) => (table.get(key) as readonly Kept[] | undefined) ?? []
      const write = ({ of, waits }: typeof left, key: string, list: readonly Kept[]) => {
        const kept = list.filter(([time]) => time + waits >= clock.watermark)
        if (kept.length === 0) of.delete(key)
        else of.set(key, kept, kept.at(-1)![0])
      }
      const take = (own: typeof left, other: typeof left, key: string, value: unknown, time: number) => {
        if (time + own.waits < clock.watermark) {
          count('late')
          side('late', value)
          return
        }
        const others = read(other.of, key)
        let met = false
        let news = false
        const after = others.map((each): Kept => {
          const [at, known, held] = each
          // one whose time is over has been given up, and told of where that is told, though it may still be in the list
          if (at + other.waits < clock.watermark || !own.mayMeet(time, at)) return each
          met = true
          emit(own.pair(value, held))
          if (known || !other.tells) return each
          news = true
          return [at, true, held]
        })
        if (news) write(other, key, after)
        const list = read(own.of, key)
        let place = list.length
        while (place > 0 && list[place - 1]![0] > time) place--
        write(own, key, list.toSpliced(place, 0, [time, met, value]))
        if (own.tells && !met) own.ends.set(key, time + own.waits)
      }
      return {
        next: (value, meta) => take(left, its, stateKey(on?.left, value, meta), value, meta.time),
        right: (value, meta) => take(its, left, stateKey(on?.right, value, meta), value, meta.time),
        due({ key, time }, _meta, piece) {
          const own = piece === 'leftEnds' ? left : its
          for (const [at, met, value] of read(own.of, key))
            if (!met && at + own.waits === time) emit(own.pair(value, null))
        },
      }
    },
  })
}
