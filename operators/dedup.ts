import { type Duration, milliseconds } from '../core/duration.ts'
import { type Keyed, type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface DedupOptions<T> extends Keyed<T> {
  /** How long a key is remembered, in event time from its first record. */
  within: Duration
}

/**
 * Passes the first record of each key and drops its repeats for `within`, measured in event time.
 *
 * The key is remembered in the same commit as the record's outputs, so a record that is read again after a crash is
 * neither lost nor passed twice. A record that is older than `within` cannot be judged: it goes to the side stream
 * `late`, counted, and never through. State: 24 bytes a key, forgotten when `within` has passed.
 *
 * @example Drop redelivered webhooks
 * ```ts
 * const opens = of({ id: 'a' }, { id: 'b' }, { id: 'a' })
 * await lastValueFrom(opens.pipe(dedup({ by: (open) => open.id, within: '24h' }), toArray())) // => [{ id: 'a' }, { id: 'b' }]
 * ```
 */
export function dedup<T>(options: DedupOptions<T>): Operator<T, T, { late: T }> {
  const { by, name = 'dedup' } = options
  const within = milliseconds(options.within, `dedup "${name}": within`)
  return operate<T, T, { seen: { kind: 'expiring-set'; within: number } }, { late: T }>({
    kind: 'dedup',
    name,
    keyed: by ? 'by' : 'stream',
    state: { seen: { kind: 'expiring-set', within } },
    sides: ['late'],
    start: ({ state: { seen }, emit, side, count }) => ({
      next(value, meta) {
        switch (seen.add(stateKey(by, value, meta), meta.time)) {
          case 'added':
            return emit(value)
          case 'present':
            return count('duplicates')
          case 'expired':
            count('late')
            return side('late', value)
        }
      },
    }),
  })
}
