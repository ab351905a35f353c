import { decodeEntries, encodeEntries, type StateEntry } from './state-codec.ts'
import type { ExpiringSet, Journal, StateClock, StateStructure } from './state.ts'

export interface ExpiringSetOptions {
  /** How long a key is remembered, milliseconds of event time. */
  readonly within: number
  readonly clock: StateClock
  readonly journal: Journal
}

/** Dead keys looked at with each commit. */
const SWEEP = 2_000

/** Keys by the time of their first record (engine rule 10). */
export function createExpiringSet({ within, clock, journal }: ExpiringSetOptions): ExpiringSet & StateStructure {
  const times = new Map<string, number>()
  let added: StateEntry[] = []
  const undone: { key: string; before: number | undefined }[] = []
  let sweeper: MapIterator<[string, number]> | undefined

  const set: ExpiringSet & StateStructure = {
    format: 'expiring-set/1',
    add(key, time) {
      if (time + within <= clock.watermark) return 'expired'
      const before = times.get(key)
      if (before !== undefined && before + within > clock.watermark) return 'present'
      times.set(key, time)
      added.push({ put: true, key, time, value: '' })
      undone.push({ key, before })
      journal.note(set)
      return 'added'
    },
    undo() {
      const { key, before } = undone.pop()!
      added.pop()
      if (before === undefined) times.delete(key)
      else times.set(key, before)
    },
    delta: () => (added.length === 0 ? undefined : encodeEntries(within, added)),
    committed() {
      added = []
      undone.length = 0
      if (!Number.isFinite(clock.watermark)) return
      sweeper ??= times.entries()
      for (let i = 0; i < SWEEP; i++) {
        const next = sweeper.next()
        if (next.done) {
          sweeper = undefined
          break
        }
        const [key, time] = next.value
        if (time + within <= clock.watermark) times.delete(key)
      }
    },
    load(blobs) {
      for (const { bytes } of blobs) for (const { key, time } of decodeEntries(bytes)) times.set(key, time)
    },
    get size() {
      return times.size
    },
    get memory() {
      return times.size * 100
    },
  }
  return set
}
