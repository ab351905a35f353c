import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Keyed, type Operator, splitKey, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'
import type { Patch } from './patch.ts'
import { type Clock, noted } from './reconcile/clocks.ts'
import { byVersion, type Say, same, stored, type Version } from './reconcile/order.ts'
import { type FieldRule, max, min, newest, oldest, only, own, union } from './reconcile/rules.ts'

/** A patch, and the name of the source that it is from: what `merge({ crm: …, web: … })` gives. */
export interface FromSource {
  readonly from: string
  readonly value: Patch<object>
}

type Simplify<T> = { [P in keyof T]: T[P] } & {}
type NamesOf<T> = T extends { readonly from: infer N extends string } ? N : never
type SetOf<T> = T extends { readonly value: Patch<infer F> } ? F : never
type KeysOf<U> = U extends unknown ? keyof U : never
type FieldOf<U, K extends PropertyKey> = U extends unknown
  ? K extends keyof U
    ? Exclude<U[K], null | undefined>
    : never
  : never
/** All fields that the sources speak of. */
export type Fields<T> = Simplify<{ readonly [K in KeysOf<SetOf<T>>]?: FieldOf<SetOf<T>, K> }>

/** Who or what decides on a field. */
export type Rule<V, N extends string> =
  | 'newest'
  | 'oldest'
  | { readonly only: N }
  | ((a: V, b: V) => V)
  | (V extends number | bigint ? 'max' | 'min' : never)
  | (V extends readonly unknown[] ? 'union' : never)
type Rules<F, N extends string> = { readonly [K in keyof F]?: Rule<NonNullable<F[K]>, N> }

export interface ReconcileOptions<T> extends Keyed<T> {
  /** All sources: who is believed when two say something at the same time, first to last. */
  trust: readonly NamesOf<T>[]
  /**
   * How a field is decided: the `newest` say, the `oldest`, `max`, `min`, `union` (a sorted list), `{ only: source }`, or a
   * function that joins two values, which must be associative, commutative and idempotent. @default 'newest'
   */
  fields?: Rules<Fields<T>, NamesOf<T>>
  /** How long what was deleted or cleared stays deleted for what is older. @default '30d' */
  tombstones?: Duration
  /** How far ahead of its arrival an event may say that it happened; what is further ahead is held to that. @default '5m' */
  future?: Duration
  /** Give with the record where each field is from. @default false */
  history?: boolean
}

/** A record as all sources together say it is. `version` is one more with every change. */
export interface Reconciled<F> {
  readonly key: string
  readonly record: F
  /** A source has deleted it, and none has said anything since. */
  readonly deleted: boolean
  readonly changed: readonly (keyof F)[]
  readonly version: number
  /** With `history`: who said what counts, and when, epoch milliseconds. */
  readonly history?: { readonly [K in keyof F]?: { readonly source: string; readonly time: number } }
}

/** What was said of a field and does not count, or of `*`, the whole record. */
export interface Rejection<T> {
  readonly value: T
  readonly field: string
  /** `from-the-future` counts, at the time that it was held to. */
  readonly reason: 'older' | 'newer' | 'lower-trust' | 'from-the-future' | 'deleted'
}

/** When a source deleted the record, by its place in `trust`. */
type Tombstone = readonly [rank: number, time: number, version: Version]

interface Kept {
  /** How often it changed. */
  readonly n: number
  readonly says: Readonly<Record<string, readonly Say[]>>
  readonly dead?: readonly Tombstone[]
}

/** A record of a person has no end. */
const FOR_EVER = 1e15
const NOTHING: Kept = { n: 0, says: {} }

/**
 * Merges what several sources say of the same record, field by field: the newest event time wins, then the source that is
 * trusted more, then the larger value. The record is the same in the end, whatever order things come in, and however
 * often.
 *
 * Each source's last word on a field is kept: a `version` decides between two changes of one source, event time between
 * sources. A field that is set to null is cleared, and a deletion clears all that is not newer; both are remembered for
 * `tombstones`, so that what comes late does not bring back what is gone. It gives the record when it has changed, with
 * what changed; what does not count goes to the side stream `rejected`, field by field, with the reason. Events from the
 * future are held to `future` after their arrival. How far each source's clock runs ahead or behind is estimated from the
 * quickest event of the last hours; a run says it at its end, and `millrace state list reconcile/clocks` at any time.
 * State: one entry a key for ever, one tombstone a deletion, one clock a source. Of a field whose `oldest` say counts, the
 * first 32 says are kept, and the first 32 since a deletion.
 *
 * @example
 * ```ts
 * type Said = { from: 'web' | 'crm'; value: { set: { city?: string; seen?: number } } }
 * const said = of<Said[]>({ from: 'web', value: { set: { city: 'Bonn', seen: 5 } } }, { from: 'crm', value: { set: { city: 'Köln' } } })
 * const people = reconcile<Said>({ by: () => 'ann', trust: ['crm', 'web'], fields: { seen: 'max' } })
 * await lastValueFrom(said.pipe(eventTime(() => 1_000), people, rxMap((p) => p.record), toArray())) // => [{ city: 'Bonn', seen: 5 }, { city: 'Köln', seen: 5 }]
 * ```
 */
export function reconcile<T extends FromSource>(
  options: ReconcileOptions<T>,
): Operator<T, Reconciled<Fields<T>>, { rejected: Rejection<T> }> {
  const { by, name = 'reconcile', trust, history = false } = options
  const where = `reconcile "${name}"`
  const tombstones = milliseconds(options.tombstones ?? '30d', `${where}: tombstones`)
  const future = milliseconds(options.future ?? '5m', `${where}: future`, { zero: true })
  if (!Array.isArray(trust) || trust.length === 0 || new Set(trust).size < trust.length)
    throw new MillraceError('BAD_OPTION', `${where}: trust must name every source once, got ${shown(trust)}`)
  const ranks = new Map<string, number>(trust.map((source, rank) => [source, rank]))
  const rules = new Map(
    Object.entries(options.fields ?? {}).map(([field, rule]) => [field, ruleOf(rule, field, where, ranks)]),
  )
  const ruleFor = (field: string): FieldRule => rules.get(field) ?? newest

  return operate<
    T,
    Reconciled<Fields<T>>,
    {
      records: { kind: 'table'; ttl: number }
      clocks: { kind: 'table'; ttl: number }
      graves: { kind: 'timers'; clock: 'event' }
    },
    { rejected: Rejection<T> }
  >({
    kind: 'reconcile',
    name,
    keyed: by ? 'by' : 'stream',
    state: {
      records: { kind: 'table', ttl: FOR_EVER },
      clocks: { kind: 'table', ttl: FOR_EVER },
      graves: { kind: 'timers', clock: 'event' },
    },
    sides: ['rejected'],
    start({ state: { records, clocks, graves }, clock, emit, side }) {
      const watchClock = (source: string, ahead: number, now: number) => {
        const known = clocks.get(source) as Clock | undefined
        const clock = noted(known, ahead, now)
        if (clock !== known) clocks.set(source, clock, now)
      }
      return {
        next(value, meta) {
          const { from, value: said } = value
          const rank = ranks.get(from)
          if (rank === undefined)
            throw new MillraceError(
              'OPERATOR_THREW',
              `${where}: trust does not name the source ${shown(from)}. Name every source in it, the one that is believed most first`,
            )
          const now = meta.now()
          watchClock(from, meta.time - now, now)
          const time = Math.min(meta.time, now + future)
          const reject = (field: string, reason: Rejection<T>['reason']) =>
            side('rejected', { value, field, reason } satisfies Rejection<T>)
          if (time < meta.time) reject('*', 'from-the-future')
          const version = stored(said.version)
          const key = stateKey(by, value, meta)
          const before = (records.get(key) as Kept | undefined) ?? NOTHING
          const says = { ...before.says }
          let dead = before.dead
          let anew = false
          const changed: string[] = []
          if (said.deleted === true) {
            const made: Tombstone = [rank, time, version]
            const other = dead?.find(([its]) => its === rank)
            if (other !== undefined && laterThan(made, other) <= 0) {
              if (laterThan(made, other) < 0) reject('*', 'older')
            } else {
              dead = [...(dead ?? []).filter((each) => each !== other), made].sort((a, b) => a[0] - b[0])
              graves.set(key, time + tombstones)
              anew = true
            }
          }
          for (const field of Object.keys(said.set)) {
            const set = (said.set as Record<string, unknown>)[field]
            if (set === undefined) continue
            const say: Say = [rank, time, version, set]
            const rule = ruleFor(field)
            const known = says[field] ?? []
            const kept = rule.place(known, say, (other) => dead === undefined || isAlive(other, dead))
            if (kept !== known) says[field] = kept
            else if (known.some((other) => sameSay(other, say))) continue
            const winner = winnerOf(rule, kept, dead)
            // a say that a deletion takes may still be its source's last word, in the place of one that counted
            if (dead !== undefined && !isAlive(say, dead)) reject(field, 'deleted')
            else if (!winner || !rule.counts(say, winner, kept))
              reject(field, winner ? rule.reason(say, winner) : 'lower-trust')
            if (set === null) graves.set(key, time + tombstones)
            if (!anew && !same(fieldOf(rule, known, dead), winner?.[3] ?? null)) changed.push(field)
          }
          if (anew) {
            for (const field of Object.keys(says)) {
              const rule = ruleFor(field)
              const was = fieldOf(rule, before.says[field] ?? [], before.dead)
              if (!same(was, fieldOf(rule, says[field]!, dead))) changed.push(field)
            }
          }
          const deletedBefore = before.dead !== undefined && isEmpty(before)
          const after: Kept = { n: before.n, says, ...(dead === undefined ? {} : { dead }) }
          const deleted = dead !== undefined && isEmpty(after)
          if (changed.length > 0 || deleted !== deletedBefore) {
            const made: Kept = { ...after, n: before.n + 1 }
            records.set(key, made, Math.max(meta.time, clock.watermark))
            emit(shownRecord(key, made, deleted, changed))
          } else if (anew || Object.keys(says).some((field) => says[field] !== before.says[field])) {
            records.set(key, after, Math.max(meta.time, clock.watermark))
          }
        },
        /** A tombstone has had its time. */
        due({ key }) {
          const kept = records.get(key) as Kept | undefined
          if (!kept) return
          const horizon = clock.watermark - tombstones
          const dead = kept.dead?.filter(([, time]) => time > horizon)
          const says = Object.fromEntries(
            Object.entries(kept.says)
              .map(
                ([field, list]) =>
                  [
                    field,
                    list.filter((say) => (say[3] !== null || say[1] > horizon) && isAlive(say, kept.dead ?? [])),
                  ] as const,
              )
              .filter(([, list]) => list.length > 0),
          )
          if (Object.keys(says).length === 0 && !dead?.length) records.delete(key)
          else records.set(key, { n: kept.n, says, ...(dead?.length ? { dead } : {}) } satisfies Kept, clock.watermark)
        },
      }

      function isEmpty({ says, dead }: Kept): boolean {
        return Object.entries(says).every(([field, list]) => fieldOf(ruleFor(field), list, dead) === null)
      }

      function shownRecord(key: string, { n, says, dead }: Kept, deleted: boolean, changed: readonly string[]) {
        const record: Record<string, unknown> = {}
        const origins: Record<string, { source: string; time: number }> = {}
        for (const field in says) {
          const winner = winnerOf(ruleFor(field), says[field]!, dead)
          if (winner === undefined || winner[3] === null) continue
          record[field] = winner[3]
          if (history) origins[field] = { source: trust[winner[0]]!, time: winner[1] }
        }
        return {
          key: by ? splitKey(key).by : key,
          record,
          deleted,
          changed,
          version: n,
          ...(history ? { history: origins } : {}),
        } as unknown as Reconciled<Fields<T>>
      }
    },
  })
}

const winnerOf = (rule: FieldRule, says: readonly Say[], dead: readonly Tombstone[] | undefined): Say | undefined =>
  rule.winner(dead === undefined ? says : says.filter((say) => isAlive(say, dead)))

/** The field's value; null when nobody says anything of it, or who counts has cleared it. */
const fieldOf = (rule: FieldRule, says: readonly Say[], dead: readonly Tombstone[] | undefined): unknown =>
  winnerOf(rule, says, dead)?.[3] ?? null

const laterThan = ([, time, version]: Tombstone, [, otherTime, otherVersion]: Tombstone): number =>
  byVersion(version, otherVersion) || time - otherTime

/** Whether no deletion takes it: its own source's by version, where both have one, any other's by time. */
function isAlive([rank, time, version]: Say, dead: readonly Tombstone[]): boolean {
  return dead.every(([owner, at, last]) =>
    owner === rank && last !== null && version !== null ? byVersion(version, last) > 0 : time > at,
  )
}

const sameSay = (a: Say, b: Say): boolean => a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && same(a[3], b[3])

function ruleOf(rule: unknown, field: string, where: string, ranks: ReadonlyMap<string, number>): FieldRule {
  if (typeof rule === 'function')
    return own(rule as (a: unknown, b: unknown) => unknown, `${where}: the rule for ${field}`)
  switch (rule) {
    case undefined:
    case 'newest':
      return newest
    case 'oldest':
      return oldest
    case 'max':
      return max
    case 'min':
      return min
    case 'union':
      return union
  }
  const trusted = ranks.get((rule as { only?: string } | null)?.only ?? '')
  if (trusted !== undefined) return only(trusted)
  throw new MillraceError(
    'BAD_OPTION',
    `${where}: the rule for ${field} must be 'newest', 'oldest', 'max', 'min', 'union', { only: a source that trust names } or a function, got ${shown(rule)}`,
  )
}
