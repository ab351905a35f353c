import { type Duration, milliseconds } from '../core/duration.ts'
import { type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'
import { checkJoin, type Joined, type JoinNamed, type Maybe, type Right } from './joins/join-options.ts'

export interface JoinLatestOptions<K extends 'inner' | 'left', L = any, R = any> extends JoinNamed<L, R> {
  /** How long a right record counts after its event time. */
  ttl: Duration
  /** `left` gives a left record for which there is none with `right: null`. @default 'inner' */
  kind?: K
}

/**
 * Gives each left record, at once, with the latest right one of its key: an event with the person's profile as it is known.
 *
 * The latest is the one with the newest event time of those that have arrived; of equals, the one that came last. Where the
 * value that was valid at the left record's time is wanted, whatever arrives when, take `joinAsOf`. State: one right record
 * a key, for `ttl`.
 *
 * @example
 * ```ts
 * const people = of({ at: 0, city: 'Bonn' }).pipe(eventTime((e) => e.at))
 * const events = of({ at: 5_000, what: 'view' }).pipe(eventTime((e) => e.at))
 * const known = joinLatest(people, { ttl: '90d', on: { left: (_: { what: string }) => 'ann', right: () => 'ann' } })
 * await lastValueFrom(events.pipe(known, rxMap(({ left, right }) => [left.what, right.city]), toArray())) // => [['view', 'Bonn']]
 * ```
 */
export function joinLatest<L, R, const K extends 'inner' | 'left' = 'inner'>(
  right: Right<R>,
  options: JoinLatestOptions<K, L, R>,
): Operator<L, Joined<L, Maybe<R, K, 'left'>>> {
  const { name = 'joinLatest', on, kind = 'inner' } = options
  const where = `joinLatest "${name}"`
  checkJoin(where, right, on, kind, ['inner', 'left'])
  const ttl = milliseconds(options.ttl, `${where}: ttl`)
  return operate<L, Joined<L, Maybe<R, K, 'left'>>, { rights: { kind: 'table'; ttl: number } }>({
    kind: 'joinLatest',
    name,
    keyed: on ? 'by' : 'stream',
    right,
    state: { rights: { kind: 'table', ttl } },
    start: ({ state: { rights }, emit }) => ({
      next(value, meta) {
        const known = rights.get(stateKey(on?.left, value, meta)) as readonly [number, R] | undefined
        if (known !== undefined || kind === 'left')
          emit({ left: value, right: (known?.[1] ?? null) as Maybe<R, K, 'left'> })
      },
      right(value: R, meta) {
        const key = stateKey(on?.right, value, meta)
        const known = rights.get(key) as readonly [number, R] | undefined
        if (known === undefined || known[0] <= meta.time) rights.set(key, [meta.time, value], meta.time)
      },
    }),
  })
}
