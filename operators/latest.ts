import { type Duration, milliseconds } from '../core/duration.ts'
import { type Keyed, type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface LatestOptions<T> extends Keyed<T> {
  /** How long the newest time of a key is remembered, in event time. */
  ttl: Duration
}

/**
 * Passes a record when it is the newest of its key so far, by event time; an older one goes to the side stream `older`.
 *
 * For sinks and joins that must not go back in time. Of records with one time each passes. State: one time a key, for
 * `ttl`.
 *
 * @example
 * ```ts
 * const changes = of({ at: 5, city: 'Bonn' }, { at: 3, city: 'Ulm' }, { at: 9, city: 'Köln' }).pipe(eventTime((e) => e.at, { lateness: '1m' }))
 * await lastValueFrom(changes.pipe(latest({ by: () => 'ann', ttl: '90d' }), rxMap((c) => c.city), toArray())) // => ['Bonn', 'Köln']
 * ```
 */
export function latest<T>(options: LatestOptions<T>): Operator<T, T, { older: T }> {
  const { by, name = 'latest' } = options
  const ttl = milliseconds(options.ttl, `latest "${name}": ttl`)
  return operate<T, T, { newest: { kind: 'table'; ttl: number } }, { older: T }>({
    kind: 'latest',
    name,
    keyed: by ? 'by' : 'stream',
    state: { newest: { kind: 'table', ttl } },
    sides: ['older'],
    start: ({ state: { newest }, emit, side }) => ({
      next(value, meta) {
        const key = stateKey(by, value, meta)
        const known = newest.get(key) as number | undefined
        if (known !== undefined && known > meta.time) {
          side('older', value)
          return
        }
        if (known !== meta.time) newest.set(key, meta.time, meta.time)
        emit(value)
      },
    }),
  })
}
