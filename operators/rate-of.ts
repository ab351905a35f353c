import { type Duration, milliseconds } from '../core/duration.ts'
import { type Keyed, type Operator, stateKey } from '../core/operator.ts'
import { operate } from '../core/standalone.ts'

export interface RateOfOptions<T> extends Keyed<T> {
  /** The time before a record that is looked at. */
  over: Duration
  /** What the rate is given for. @default '1m' */
  per?: Duration
}

/** A record with how many of its key there were in the time before it, itself included, and how many that is in `per`. */
export interface Rated<T> {
  readonly value: T
  readonly count: number
  readonly rate: number
}

/** How finely the time is cut: a count may take in this share more of it. */
const PIECES = 60

type Kept = readonly [newest: number, ...counts: number[]]

/**
 * Gives each record at once, with how often its key came lately: mails a person got in an hour, clicks a minute.
 *
 * The time is looked at in sixtieths, so that a count may take in up to a sixtieth of `over` more. A record that is older
 * than all that is kept gets the count of its own piece. State: at most 60 counts a key, forgotten `over` after the last
 * record.
 *
 * @example
 * ```ts
 * const clicks = of({ at: 0 }, { at: 30_000 }, { at: 600_000 }).pipe(eventTime((e) => e.at))
 * await lastValueFrom(clicks.pipe(rateOf({ by: () => 'ann', over: '5m' }), rxMap((r) => [r.count, r.rate]), toArray())) // => [[1, 0.2], [2, 0.4], [1, 0.2]]
 * ```
 */
export function rateOf<T>(options: RateOfOptions<T>): Operator<T, Rated<T>> {
  const { by, name = 'rateOf' } = options
  const over = milliseconds(options.over, `rateOf "${name}": over`)
  const per = milliseconds(options.per ?? '1m', `rateOf "${name}": per`)
  const piece = over / PIECES
  return operate<T, Rated<T>, { counts: { kind: 'table'; ttl: number } }>({
    kind: 'rateOf',
    name,
    keyed: by ? 'by' : 'stream',
    state: { counts: { kind: 'table', ttl: over + piece } },
    start: ({ state: { counts }, clock, emit }) => ({
      next(value, meta) {
        const key = stateKey(by, value, meta)
        const own = Math.floor(meta.time / piece)
        const [newest = own, ...before] = (counts.get(key) as Kept | undefined) ?? [own]
        // the newest piece stands first
        const ahead = Math.max(0, own - newest)
        const made = ahead > PIECES ? [] : [...new Array<number>(ahead).fill(0), ...before].slice(0, PIECES + 1)
        const first = Math.max(newest, own)
        const at = first - own
        while (made.length <= Math.min(at, PIECES)) made.push(0)
        if (at <= PIECES) made[at]!++
        counts.set(key, [first, ...made], Math.max(meta.time, clock.watermark))
        const count = at > PIECES ? 1 : made.slice(at, at + PIECES + 1).reduce((sum, n) => sum + n, 0)
        emit({ value, count, rate: (count * per) / over })
      },
    }),
  })
}
