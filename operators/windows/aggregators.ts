import { shown } from '../../core/duration.ts'
import { MillraceError } from '../../core/errors.ts'
import { type Key, keyText } from '../../core/operator.ts'
import * as distinct from './distinct.ts'
import * as quantiles from './quantiles.ts'
import * as top from './top.ts'

/** What a window computes of its records: made by one of the `Aggregators`. Its state is JSON, and never changed in place. */
export interface Aggregator<in T, out R> {
  /** What it computes, such as `sum`: state of another kind is not taken up. */
  readonly kind: string
  readonly empty: unknown
  add(state: any, e: T): unknown
  /** Of two parts of a window; `a` is the earlier one. */
  merge(a: any, b: any): unknown
  result(state: any): R
}

/** What `aggregate` gets: each gives one field of the window's result. */
export interface Aggregators<T> {
  /** How many records, or how many that `where` says yes to. */
  count(where?: (e: T) => boolean): Aggregator<T, number>
  /** The sum, without the error of adding many floats (Neumaier). */
  sum(of: (e: T) => number): Aggregator<T, number>
  mean(of: (e: T) => number): Aggregator<T, number | null>
  min(of: (e: T) => number): Aggregator<T, number | null>
  max(of: (e: T) => number): Aggregator<T, number | null>
  /** How many different keys: exact up to 128, beyond that a HyperLogLog with a standard error of 1.6 %. */
  distinct(of: (e: T) => Key): Aggregator<T, number>
  /** Exact up to 32 values, beyond that within 1 % of the value (DDSketch). `q` is from 0 to 1. */
  quantile(of: (e: T) => number, q: number): Aggregator<T, number | null>
  /** The `k` most frequent, at most 100: exact up to 10 × k different keys, beyond that never too small. */
  top(of: (e: T) => Key, k: number): Aggregator<T, readonly { readonly key: string; readonly count: number }[]>
  /** The first ones, as they arrive. */
  collect<R>(of: (e: T) => R, atMost: number): Aggregator<T, readonly R[]>
  /** One's own: states are JSON; `merge` joins two parts of a window, the earlier one first. */
  fold<S>(
    seed: S,
    step: (s: NoInfer<S>, e: T) => NoInfer<S>,
    merge: (a: NoInfer<S>, b: NoInfer<S>) => NoInfer<S>,
  ): Aggregator<T, S>
}

type Sum = readonly [sum: number, lost: number]

function plus([sum, lost]: Sum, value: number): Sum {
  const next = sum + value
  return [next, lost + (Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum)]
}

/** The aggregators, with messages that say whose they are. */
export function aggregators<T>(where: string): Aggregators<T> {
  const number = (kind: string, of: (e: T) => number, e: T): number => {
    const value = of(e)
    if (Number.isFinite(value)) return value
    throw new MillraceError('OPERATOR_THREW', `${where}: ${kind} must be given finite numbers, got ${shown(value)}`)
  }
  const reading = (kind: string, of: unknown) => {
    if (typeof of !== 'function')
      throw new MillraceError(
        'BAD_OPTION',
        `${where}: ${kind} must be given a function of the record, got ${shown(of)}`,
      )
  }
  const whole = (kind: string, given: number, most: number) => {
    if (!(Number.isInteger(given) && given >= 1 && given <= most))
      throw new MillraceError(
        'BAD_OPTION',
        `${where}: ${kind} must be given a whole number from 1 to ${most}, got ${shown(given)}`,
      )
  }
  const extreme = (kind: 'min' | 'max', of: (e: T) => number): Aggregator<T, number | null> => {
    reading(kind, of)
    const better = kind === 'min' ? Math.min : Math.max
    const merge = (a: number | null, b: number | null) => (a === null || b === null ? (a ?? b) : better(a, b))
    return { kind, empty: null, add: (state, e) => merge(state, number(kind, of, e)), merge, result: (state) => state }
  }
  return {
    count(of) {
      if (of !== undefined) reading('count', of)
      return {
        kind: 'count',
        empty: 0,
        add: (state, e) => (of === undefined || of(e) ? state + 1 : state),
        merge: (a, b) => a + b,
        result: (state) => state,
      }
    },
    sum(of) {
      reading('sum', of)
      return {
        kind: 'sum',
        empty: [0, 0],
        add: (state: Sum, e) => plus(state, number('sum', of, e)),
        merge: (a: Sum, [sum, lost]: Sum) => plus(plus(a, sum), lost),
        result: ([sum, lost]: Sum) => sum + lost,
      }
    },
    mean(of) {
      reading('mean', of)
      return {
        kind: 'mean',
        empty: [0, 0, 0],
        add: ([sum, lost, n]: [number, number, number], e) => [...plus([sum, lost], number('mean', of, e)), n + 1],
        merge: ([sum, lost, n]: [number, number, number], b: [number, number, number]) => [
          ...plus(plus([sum, lost], b[0]), b[1]),
          n + b[2],
        ],
        result: ([sum, lost, n]: [number, number, number]) => (n === 0 ? null : (sum + lost) / n),
      }
    },
    min: (of) => extreme('min', of),
    max: (of) => extreme('max', of),
    distinct(of) {
      reading('distinct', of)
      return {
        kind: 'distinct',
        empty: distinct.NONE,
        add: (state, e) => distinct.withKey(state, keyText(of(e), `${where}: distinct`)),
        merge: distinct.merged,
        result: distinct.count,
      }
    },
    quantile(of, q) {
      reading('quantile', of)
      if (!(q >= 0 && q <= 1))
        throw new MillraceError('BAD_OPTION', `${where}: quantile must be given a share from 0 to 1, got ${shown(q)}`)
      return {
        kind: 'quantile',
        empty: quantiles.EMPTY,
        add: (state, e) => quantiles.withValue(state, number('quantile', of, e)),
        merge: quantiles.merged,
        result: (state) => quantiles.quantile(state, q),
      }
    },
    top(of, k) {
      reading('top', of)
      whole('top', k, 100)
      const room = 10 * k
      return {
        kind: 'top',
        empty: [],
        add: (state, e) => top.withKey(state, keyText(of(e), `${where}: top`), room),
        merge: (a, b) => top.merged(a, b, room),
        result: (state: top.Top) => state.slice(0, k).map(([key, count]) => ({ key, count })),
      }
    },
    collect<R>(of: (e: T) => R, atMost: number) {
      reading('collect', of)
      whole('collect', atMost, 10_000)
      return {
        kind: 'collect',
        empty: [],
        add: (state: R[], e: T) => (state.length < atMost ? [...state, of(e)] : state),
        merge: (a: R[], b: R[]) => [...a, ...b].slice(0, atMost),
        result: (state: R[]) => state,
      }
    },
    fold: (seed, step, merge) => {
      reading('fold', step)
      reading('fold', merge)
      return { kind: 'fold', empty: seed, add: step, merge, result: (state) => state }
    },
  }
}
