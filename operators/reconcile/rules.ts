import { MillraceError } from '../../core/errors.ts'
import { byValue, byVersion, canonical, ofAll, ofOneSource, type Say, same } from './order.ts'

/** How the says of a field become its value. */
export interface FieldRule {
  /** What is kept when something more is said; the same list when it adds nothing. `alive`: no deletion known so far takes it. */
  place(says: readonly Say[], say: Say, alive: (say: Say) => boolean): readonly Say[]
  /** The say that gives the value, of those that are alive; undefined when there is none. */
  winner(alive: readonly Say[]): Say | undefined
  /** Whether a say is part of the value. */
  counts(say: Say, winner: Say, kept: readonly Say[]): boolean
  /** Why a say that is alive did not become the value. */
  reason(say: Say, winner: Say): 'older' | 'newer' | 'lower-trust'
}

/** Each source's last word; the newest of them, the one that is trusted more, the larger value. */
export const newest: FieldRule = {
  place(says, say) {
    const at = says.findIndex(([rank]) => rank === say[0])
    if (at < 0) return [...says, say]
    return ofOneSource(say, says[at]!) > 0 ? says.with(at, say) : says
  },
  winner: (alive) => largest(alive, ofAll),
  counts: (say, winner) => say === winner,
  reason: (say, winner) => (say[0] !== winner[0] && say[1] === winner[1] ? 'lower-trust' : 'older'),
}

/** The word of one source. */
export const only = (trusted: number): FieldRule => ({
  place: (says, say, alive) => (say[0] === trusted ? newest.place(says, say, alive) : says),
  winner: newest.winner,
  counts: newest.counts,
  reason: (say) => (say[0] === trusted ? 'older' : 'lower-trust'),
})

/**
 * So many of the oldest says are kept, so that there is a next one when a tombstone takes the oldest; and of those that no
 * tombstone takes as many, so that what is said after a deletion is not crowded out by what it took.
 */
const OLDEST = 32
const firstToLast = (a: Say, b: Say): number =>
  a[1] - b[1] || a[0] - b[0] || byVersion(a[2], b[2]) || byValue(a[3], b[3])

export const oldest: FieldRule = {
  place(says, say, alive) {
    if (say[3] === null || says.some((other) => firstToLast(other, say) === 0)) return says
    let living = 0
    const kept = [...says, say].sort(firstToLast).filter((each, i) => {
      const lives = alive(each) && ++living <= OLDEST
      return lives || i < OLDEST
    })
    return kept.includes(say) ? kept : says
  },
  winner: (alive) => alive[0],
  counts: newest.counts,
  reason: (say, winner) => (say[1] === winner[1] ? 'lower-trust' : 'newer'),
}

/**
 * All that was said, joined. Of what was said only that is kept which a later say does not hold already: a tombstone takes
 * what is older than itself, and the rest must be there then.
 */
export function joined(join: (a: any, b: any) => unknown): FieldRule {
  const holds = (more: Say, less: Say) =>
    more[1] >= less[1] &&
    (more[2] === null && less[2] === null ? true : more[0] === less[0] && byVersion(more[2], less[2]) >= 0) &&
    same(join(less[3], more[3]), more[3])
  return {
    place(says, say) {
      if (say[3] === null || says.some((other) => holds(other, say))) return says
      return [...says.filter((other) => !holds(say, other)), say].sort(firstToLast)
    },
    winner(alive) {
      if (alive.length < 2) return alive[0]
      const [rank, time, version] = largest(alive, ofAll)!
      return [rank, time, version, alive.map(([, , , value]) => value).reduce(join)]
    },
    counts: (say, _, kept) => kept.includes(say),
    reason: () => 'older',
  }
}

export const union = joined((a: readonly unknown[], b: readonly unknown[]) => {
  const all = new Map([...a, ...b].map((each) => [canonical(each), each]))
  return [...all].sort(([x], [y]) => (x < y ? -1 : 1)).map(([, each]) => each)
})
export const max = joined((a, b) => (byValue(a, b) >= 0 ? a : b))
export const min = joined((a, b) => (byValue(a, b) <= 0 ? a : b))

/** Pairs of different values that a function of one's own is tried on. */
const TRIES = 200
/** Values that came before, with which a pair is tried. */
const THIRDS = 6

/**
 * A function of one's own. It is tried on values as they come, each with another and with some that came before: what
 * is not associative, commutative and idempotent would give another record for another order of arrival, and stops the
 * pipeline.
 */
export function own(join: (a: any, b: any) => unknown, where: string): FieldRule {
  let tries = 0
  const before: unknown[] = []
  return joined((a, b) => {
    const ab = join(a, b)
    if (tries < TRIES && !same(a, b)) {
      tries++
      const wrong = !same(ab, join(b, a))
        ? 'commutative: for some values, (a, b) and (b, a) give different ones'
        : !same(join(a, a), a)
          ? 'idempotent: for some value, (a, a) does not give a'
          : [a, ab, ...before].some((c) => !same(join(ab, c), join(a, join(b, c))))
            ? 'associative: for some values, joining a with b first, or b with c, gives different ones'
            : undefined
      if (wrong !== undefined)
        throw new MillraceError(
          'FLOW_BROKE_RULES',
          `${where} is not ${wrong}, so that the record would depend on the order of arrival. Take a function like a maximum or a union`,
        )
      before.push(a, b)
      if (before.length > THIRDS) before.splice(0, 2)
    }
    return ab
  })
}

function largest<E>(list: readonly E[], order: (a: E, b: E) => number): E | undefined {
  let found = list[0]
  for (let i = 1; i < list.length; i++) if (order(list[i]!, found!) > 0) found = list[i]
  return found
}
