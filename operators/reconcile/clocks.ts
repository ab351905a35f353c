/** What is known of a source's clock: how far its events were ahead of their arrival at most, milliseconds. */
export interface Clock {
  /** In the hour that began at `at`; below zero, they came so much later. */
  readonly ahead: number
  readonly at: number
  /** In the hour before. */
  readonly before?: number
}

const HOUR = 3_600_000
/** What is known is exact to this, so that not every record changes it. */
const STEP = 100

/** What is known when an event has come; the same object when it says nothing new. */
export function noted(known: Clock | undefined, ahead: number, now: number): Clock {
  if (known === undefined || now - known.at >= 2 * HOUR) return { ahead, at: now }
  if (now - known.at >= HOUR) return { ahead, at: now, before: known.ahead }
  return ahead >= known.ahead + STEP ? { ...known, ahead } : known
}

/**
 * How far a source's clock runs ahead of ours, milliseconds; below zero, it is behind, or its fastest event took so long.
 *
 * The event of the last one to two hours that was under way for the shortest time tells most of the clock, as in the clock
 * filter of NTP (RFC 5905, section 10).
 */
export const skewOf = ({ ahead, before }: Clock): number => Math.max(ahead, before ?? ahead)
