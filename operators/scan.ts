import type { StandardSchemaV1 } from '@standard-schema/spec'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import { jsonText } from '../core/json-text.ts'
import { type Keyed, type Meta, type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

/** A defaulted type parameter in a return type is inferred from what the caller expects; behind this it is not. */
type Fixed<A> = [A][A extends unknown ? 0 : never]

/** Whether there is something in S that a seed cannot show the type of: an empty list is a list of nothing. */
type Blind<S> = S extends readonly (infer E)[]
  ? [E] extends [never]
    ? true
    : never
  : S extends object
    ? { [P in keyof S]: Blind<S[P]> }[keyof S]
    : never
/** Behind this, an empty list in `seed` is an error where it is written, and says what to do. */
type Seeing<S> =
  true extends Blind<S> ? 'an empty list does not show what will be in it: give `state`, a schema' : unknown

export interface ScanOptions<T, S, R> extends Keyed<T> {
  /** Needed when `seed` does not show its own type (empty lists, nulls), and to carry state over versions. */
  state?: StandardSchemaV1<any, S>
  /** The state of a key before its first record. JSON. */
  seed: S
  /** The state after a record. It gets values that it must not change. */
  step: (state: S, e: T, meta: Meta) => NoInfer<S>
  /** What to give for a record. @default the state */
  emit?: (state: S, e: T, before: S) => R
  /** How long a key is remembered after its last record, in event time. */
  ttl: Duration
}

/**
 * Keeps a state per key, and gives it after each record.
 *
 * The state is durable: it is committed with the record's outputs, and comes back after a restart. With `state`, what an
 * earlier version stored is brought into today's shape by the schema, whose defaults and transforms apply. A key that
 * had no record for `ttl` starts from `seed` again.
 *
 * @example
 * ```ts
 * const spent = scan({ by: (o: { who: string; amount: number }) => o.who, seed: 0, step: (sum, o) => sum + o.amount, ttl: '30d' })
 * await lastValueFrom(of({ who: 'a', amount: 2 }, { who: 'b', amount: 5 }, { who: 'a', amount: 3 }).pipe(spent, toArray())) // => [2, 5, 5]
 * ```
 */
export function scan<T, S, R = S>(options: ScanOptions<T, S, R> & { seed: Seeing<NoInfer<S>> }): Operator<T, Fixed<R>> {
  const { by, name = 'scan', seed, step, emit: project, state: schema } = options
  const ttl = milliseconds(options.ttl, `scan "${name}": ttl`)
  if (typeof step !== 'function')
    throw new MillraceError('BAD_OPTION', `scan "${name}": step must be a function, got ${shown(step)}`)
  if (project !== undefined && typeof project !== 'function')
    throw new MillraceError('BAD_OPTION', `scan "${name}": emit must be a function, got ${shown(project)}`)
  if (schema !== undefined && typeof schema['~standard']?.validate !== 'function') {
    throw new MillraceError(
      'BAD_OPTION',
      `scan "${name}": state must be a Standard Schema (zod, valibot, arktype), got ${shown(schema)}`,
    )
  }
  try {
    jsonText(seed)
  } catch (error) {
    throw new MillraceError('BAD_OPTION', `scan "${name}": seed must be JSON: ${messageOf(error)}`)
  }
  const revive = schema && ((stored: unknown) => revived(schema, stored, name))
  return operate<T, Fixed<R>, { states: { kind: 'table'; ttl: number; revive?: (stored: unknown) => unknown } }>({
    kind: 'scan',
    name,
    keyed: by ? 'by' : 'stream',
    state: { states: { kind: 'table', ttl, ...(revive ? { revive } : {}) } },
    start: ({ state: { states }, emit }) => ({
      next(value, meta) {
        const key = stateKey(by, value, meta)
        const before = (states.get(key) as S | undefined) ?? seed
        const after = step(before, value, meta)
        states.set(key, after, meta.time)
        emit((project ? project(after, value, before) : after) as Fixed<R>)
      },
    }),
  })
}

function revived<S>(schema: StandardSchemaV1<any, S>, stored: unknown, name: string): unknown {
  const result = schema['~standard'].validate(stored)
  if (result instanceof Promise)
    throw new MillraceError('BAD_OPTION', `scan "${name}": the schema of its state must not be asynchronous`)
  if (!result.issues) return result.value
  throw new MillraceError(
    'TOPOLOGY_CHANGED',
    `scan "${name}": a stored state does not fit its schema (${result.issues[0]?.message}): give new fields a default, or start with --drop-state ${name}`,
  )
}
