import { shown } from '../../core/duration.ts'
import { MillraceError } from '../../core/errors.ts'
import { type Aggregator, type Aggregators, aggregators } from './aggregators.ts'

type Simplify<T> = { [P in keyof T]: T[P] } & {}
export type Results<A> = { readonly [P in keyof A]: A[P] extends Aggregator<any, infer R> ? R : never }

/**
 * What a window gives: whose it is, from when until when (epoch milliseconds, the end not included), and a field for each
 * aggregator. `revision` counts the results of this window before this one; `closed` says that its end has passed, so
 * that only late events may still correct it.
 */
export type Windowed<A> = Simplify<
  {
    readonly key: string
    readonly start: number
    readonly end: number
    readonly revision: number
    readonly closed: boolean
  } & Results<A>
>

/** A record that came when its windows were over: `by` is how many milliseconds too late. */
export interface Late<T> {
  readonly value: T
  readonly time: number
  readonly by: number
}

/** What is stored of a part of a window: which aggregators it is of, how many records it has, and their states. */
export type Counted = readonly [kinds: string, records: number, ...states: unknown[]]

const OWN = ['key', 'start', 'end', 'revision', 'closed']

/** All aggregators of a window as one. */
export interface Tally<T> {
  /** What was stored, in today's shape: of what an earlier version stored, an aggregator that is new begins now. */
  read(stored: unknown): Counted
  add(before: Counted | undefined, e: T): Counted
  merge(a: Counted, b: Counted): Counted
  /** A window's result: its own fields, and one for each aggregator. */
  result(own: Omit<Windowed<unknown>, never>, counted: Counted): Record<string, unknown>
}

export function tallyOf<T, A>(aggregate: (a: Aggregators<T>) => A, where: string): Tally<T> {
  if (typeof aggregate !== 'function')
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: aggregate must be a function such as (a) => ({ n: a.count() }), got ${shown(aggregate)}`,
    )
  const made = aggregate(aggregators<T>(where)) as Readonly<Record<string, Aggregator<T, unknown>>>
  const names = Object.keys(made ?? {})
  for (const name of names) {
    if (OWN.includes(name))
      throw new MillraceError(
        'BAD_OPTION',
        `${where}: aggregate must not give a field ${name}: every result has one of that name`,
      )
    if (typeof made[name]?.add !== 'function')
      throw new MillraceError(
        'BAD_OPTION',
        `${where}: ${name} must be an aggregator, such as a.count(), got ${shown(made[name])}`,
      )
  }
  if (names.length === 0) throw new MillraceError('BAD_OPTION', `${where}: aggregate must give at least one aggregator`)
  const all = names.map((name) => made[name]!)
  const kinds = names.map((name, i) => `${name}:${all[i]!.kind}`).join()
  const none: Counted = [kinds, 0, ...all.map(({ empty }) => empty)]
  return {
    add(before = none, e) {
      const after: unknown[] = [kinds, before[1] + 1]
      for (let i = 0; i < all.length; i++) after.push(all[i]!.add(before[i + 2], e))
      return after as unknown as Counted
    },
    merge: (a, b) => [kinds, a[1] + b[1], ...all.map(({ merge }, i) => merge(a[i + 2], b[i + 2]))],
    result({ key, start, end, revision, closed }, counted) {
      const result: Record<string, unknown> = { key, start, end, revision, closed }
      for (let i = 0; i < names.length; i++) result[names[i]!] = all[i]!.result(counted[i + 2])
      return result
    },
    read(stored) {
      const counted = stored as Counted
      if (counted[0] === kinds) return counted
      const before = counted[0].split(',')
      return [
        kinds,
        counted[1],
        ...kinds
          .split(',')
          .map((kind, i) => (before.includes(kind) ? counted[before.indexOf(kind) + 2] : all[i]!.empty)),
      ]
    },
  }
}
