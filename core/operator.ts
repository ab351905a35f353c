import type { Observable } from 'rxjs'
import { shown } from './duration.ts'
import { MillraceError } from './errors.ts'
import { made } from './made.ts'
import type { ExpiringSet, StateClock, StateDeclaration, Table, Timer, Timers } from './state.ts'

/** What a key function may return. The engine keeps its canonical text: 42, 42n and '42' are one key. */
export type Key = string | number | bigint

/** What travels beside a value. `now`, `random` and `id` are the task's, so that a replay and a test own them. */
export interface Meta {
  readonly key: string
  /** Event time, epoch milliseconds. */
  readonly time: number
  /** The source that the record came from; of a timer, the operator that set it. */
  readonly source: string
  /** When the element arrived, by the task's clock: the same at every attempt. */
  now(): number
  /** From 0 up to, and not, 1: drawn from the element, so that a second attempt draws the same. */
  random(): number
  /** A name that only this element, at this call, gives: the same at every attempt. */
  id(): string
}

/** Meta for an asynchronous call; the signal aborts when its answer is no longer wanted. */
export interface AsyncMeta extends Meta {
  readonly signal: AbortSignal
}

export interface Named {
  /** What the operator's state is stored under, and messages call it. @default the operator's kind */
  name?: string
}

export interface Keyed<T> extends Named {
  /** A finer key: state is kept per stream key *and* `by`. Outside a pipeline it is the key. @default the stream's key */
  by?: (e: T, meta: Meta) => Key
}

declare const SIDES: unique symbol

/** An RxJS `OperatorFunction`, with what it lays aside (`late`, `rejected`, …) as S. */
export interface Operator<in T, out R, out S = {}> {
  (source: Observable<T>): Observable<R>
  readonly [SIDES]?: S | undefined
}

/** The pieces of state that an operator declares, by its own name for each. */
export type StateShape = Readonly<Record<string, StateDeclaration>>

type PieceOf<D extends StateDeclaration> = D extends { kind: 'expiring-set' }
  ? ExpiringSet
  : D extends { kind: 'table' }
    ? Table<any>
    : Timers

/** What an operator works with: its state, its clock, and where its output goes. */
export interface OperatorContext<R, D extends StateShape = StateShape> {
  /** Its name, for messages. */
  readonly name: string
  readonly state: { readonly [P in keyof D]: PieceOf<D[P]> }
  readonly clock: StateClock
  /** Gives a value downstream, with the key (or with another) and time of the element that is being worked on. */
  emit(value: R, key?: string): void
  /** Gives a value to a side stream. */
  side(name: string, value: unknown): void
  /** Counts a record that was dropped, so that nothing is dropped in silence. */
  count(what: 'duplicates' | 'late'): void
}

export interface OperatorHandlers<T> {
  next(value: T, meta: Meta): void
  /** A timer of the piece of state with this name is due; `meta` has its key and time, and the watermark is its time. */
  due?(timer: Timer, meta: Meta, piece: string): void
  /** A value of the second input (joins). */
  right?(value: any, meta: Meta): void
}

/** How an operator that waits for answers is called. */
export interface AsyncWork<T, R> {
  readonly concurrency: number
  readonly ordered: boolean
  /** Milliseconds until a call is given up. */
  readonly timeout: number
  call(value: T, meta: AsyncMeta): PromiseLike<R>
}

/** What an operator is: the port that each file in `operators/` implements. */
export interface OperatorDefinition<T, R, D extends StateShape = StateShape> {
  readonly kind: string
  readonly name?: string | undefined
  readonly state?: D
  /** Its state is kept under what `stateKey` gives: per stream key, which only a pipeline has, or per `by` too. */
  readonly keyed?: 'stream' | 'by'
  /** Why it cannot stand in a pipeline, for one that has its use on plain Observables only. */
  readonly plainOnly?: string
  /** Names of its side streams. */
  readonly sides?: readonly string[]
  /** The second input, a stream or an Observable. */
  readonly right?: unknown
  /** What it gives is brought to the partition of its key through a channel, and is worked on in a stage of its own. */
  readonly channel?: { readonly partitions: number | undefined }
  /** It waits for answers: the engine calls this instead of `start`. */
  readonly work?: AsyncWork<T, R>
  /** Called once when a task opens (or a plain Observable is subscribed), before the first element. */
  start?(context: OperatorContext<R, D>): OperatorHandlers<T>
}

const DEFINITION = Symbol.for('millrace.operator')

/** The definition behind a Millrace operator; undefined for any other function. */
export function definitionOf(operator: unknown): OperatorDefinition<any, any> | undefined {
  return (operator as { [DEFINITION]?: OperatorDefinition<any, any> })[DEFINITION]
}

/** Ties a definition to the function that runs it on a plain Observable. */
export function tie<T, R, S>(
  run: (source: Observable<T>) => Observable<R>,
  definition: OperatorDefinition<T, R, any>,
): Operator<T, R, S> {
  return Object.defineProperty(run, DEFINITION, { value: made(definition) }) as Operator<T, R, S>
}

/**
 * The canonical text of a key.
 *
 * @throws MillraceError OPERATOR_THREW when it is none: `undefined` would make one key of all records that lack a field
 */
export function keyText(key: Key, where: string): string {
  if (typeof key === 'string') return key
  if (typeof key === 'bigint' || Number.isFinite(key)) return String(key)
  throw new MillraceError(
    'OPERATOR_THREW',
    `${where} must give a string, a finite number or a bigint, got ${shown(key)}`,
  )
}

/** What must be equal, beside the streams' key, for a left and a right record to meet. Outside a pipeline it is the key. */
export interface JoinKeys<L, R> {
  readonly left: (e: L, meta: Meta) => Key
  readonly right: (e: R, meta: Meta) => Key
}

/** The text that state is kept under: injective in the stream's key and `by`. */
export function stateKey<T>(by: Keyed<T>['by'], value: T, meta: Meta): string {
  return by ? `${meta.key.length}:${meta.key}${keyText(by(value, meta), 'by')}` : meta.key
}

/** Takes apart what `stateKey` put together, where `by` was given. */
export function splitKey(text: string): { readonly key: string; readonly by: string } {
  const from = text.indexOf(':') + 1
  const to = from + Number(text.slice(0, from - 1))
  return { key: text.slice(from, to), by: text.slice(to) }
}
