import { type Duration, milliseconds } from '../core/duration.ts'
import { type Keyed, type Operator, splitKey, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface SessionizeOptions<T> extends Keyed<T> {
  /** Silence that ends a session: a record this long after the last one begins another. */
  gap: Duration
}

/** A record with the session it is part of: `session` is the key and the time of the record that began it; `number` counts from 1. */
export interface Sessioned<T> {
  readonly value: T
  readonly session: string
  readonly number: number
}

type Kept = readonly [began: number, first: number, last: number, records: number]

/**
 * Gives each record at once, with the name of the session it is part of: a visit, which a silence of `gap` ends.
 *
 * What was given is not taken back: a session keeps the name of the record that began it, in the order of arrival, also
 * when an earlier record of it comes later; and when a record joins two sessions, what follows is of the older one. Where
 * a result a session is wanted, take `session`. State: one entry a key, with its sessions that are not over.
 *
 * @example
 * ```ts
 * const views = of({ at: 0 }, { at: 60_000 }, { at: 3_600_000 }).pipe(eventTime((e) => e.at))
 * const visits = sessionize({ by: () => 'ann', gap: '30m' })
 * await lastValueFrom(views.pipe(visits, rxMap((s) => `${s.session} ${s.number}`), toArray())) // => ['ann/0 1', 'ann/0 2', 'ann/3600000 1']
 * ```
 */
export function sessionize<T>(options: SessionizeOptions<T>): Operator<T, Sessioned<T>> {
  const { by, name = 'sessionize' } = options
  const gap = milliseconds(options.gap, `sessionize "${name}": gap`)
  return operate<T, Sessioned<T>, { sessions: { kind: 'table'; ttl: number } }>({
    kind: 'sessionize',
    name,
    keyed: by ? 'by' : 'stream',
    state: { sessions: { kind: 'table', ttl: gap + 1 } },
    start: ({ state: { sessions }, clock, emit }) => ({
      next(value, meta) {
        const { time } = meta
        const key = stateKey(by, value, meta)
        const list = ((sessions.get(key) as readonly Kept[] | undefined) ?? []).filter(
          ([, , last]) => last + gap > clock.watermark,
        )
        const joined = list.filter(([, first, last]) => time < last + gap && first < time + gap)
        const made: Kept = [
          joined[0]?.[0] ?? time,
          Math.min(time, ...joined.map(([, first]) => first)),
          Math.max(time, ...joined.map(([, , last]) => last)),
          joined.reduce((sum, [, , , records]) => sum + records, 1),
        ]
        const rest = list.filter((kept) => !joined.includes(kept))
        // the session that began first, in the order of arrival, stays in front
        const at = joined.length > 0 ? list.indexOf(joined[0]!) : rest.length
        sessions.set(
          key,
          rest.toSpliced(Math.min(at, rest.length), 0, made),
          Math.max(clock.watermark, ...list.map(([, , last]) => last), made[2]),
        )
        emit({ value, session: `${by ? splitKey(key).by : key}/${made[0]}`, number: made[3] })
      },
    }),
  })
}
