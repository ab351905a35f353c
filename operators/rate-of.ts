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

/** Counts of the pieces that have any, the newest first: a piece, its count, the next piece, and so on. */
interface Kept {
  readonly pieces: readonly number[]
}
/** As it was stored before: the newest piece, its count, and those of all before it, empty ones too. */
type Dense = readonly [newest: number, ...counts: number[]]

function piecesOf(kept: Kept | Dense | undefined): readonly number[] {
  if (kept === undefined) return []
  if ('pieces' in kept) return kept.pieces
  const [newest, ...counts] = kept
  return counts.flatMap((count, i) => (count > 0 ? [newest - i, count] : []))
}

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
        const before = piecesOf(counts.get(key))
        const first = Math.max(own, before[0] ?? own)
        const made: number[] = []
        let count = 1
        // one that is older than all that is kept changes nothing
        const keeps = own >= first - PIECES
        let placed = !keeps
        for (let i = 0; i < before.length && before[i]! >= first - PIECES; i += 2) {
          const at = before[i]!
          const n = before[i + 1]!
          if (keeps && at <= own && at >= own - PIECES) count += n
          if (!placed && at < own) made.push(own, 1)
          made.push(at, at === own ? n + 1 : n)
          placed ||= at <= own
        }
        if (!placed) made.push(own, 1)
        counts.set(key, { pieces: made } satisfies Kept, Math.max(meta.time, clock.watermark))
        emit({ value, count, rate: (count * per) / over })
      },
    }),
  })
}
