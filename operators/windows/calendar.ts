import { shown } from '../../core/duration.ts'
import { MillraceError } from '../../core/errors.ts'

/** Cuts time into pieces, one after the other. */
export interface Calendar {
  /** The beginning of the piece that a time is in. */
  floor(time: number): number
  /** The beginning of the piece after the one that begins at `start`. */
  next(start: number): number
  /** Milliseconds that no piece is longer than. */
  readonly longest: number
}

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** 1970-01-05 was a Monday. */
const MONDAY = 4

/**
 * Pieces of so many milliseconds. Whole days begin at midnight in the time zone, and have 23 or 25 hours when its clocks
 * change; whole weeks begin on Mondays. Shorter pieces are counted from midnight on, and the last one of a day ends with
 * it.
 *
 * @throws MillraceError BAD_OPTION for a zone that there is not, and for pieces that do not divide a day in a time zone
 */
export function calendar(length: number, timeZone: string | undefined, where: string): Calendar {
  if (length % DAY === 0) {
    const days = length / DAY
    const shift = days % 7 === 0 ? MONDAY : 0
    const zone = timeZone === undefined || timeZone === 'UTC' ? UTC : midnights(timeZone, where)
    const floor = (time: number) => {
      const day = zone.day(time)
      return zone.midnight(day - modulo(day - shift, days))
    }
    return {
      floor,
      next: (start) => zone.midnight(zone.day(start) + days),
      longest: length + (zone === UTC ? 0 : 3 * HOUR),
    }
  }
  if (timeZone === undefined || timeZone === 'UTC') {
    return { floor: (time) => time - modulo(time, length), next: (start) => start + length, longest: length }
  }
  if (DAY % length !== 0)
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: with a time zone, a length must be whole days or divide a day, got ${shown(length / 60_000)} minutes`,
    )
  const zone = midnights(timeZone, where)
  return {
    floor(time) {
      const begin = zone.midnight(zone.day(time))
      return begin + Math.floor((time - begin) / length) * length
    },
    next: (start) => Math.min(start + length, zone.midnight(zone.day(start) + 1)),
    longest: length,
  }
}

const modulo = (a: number, b: number): number => ((a % b) + b) % b

/** Days of a place, by their number since 1970-01-01. */
interface Days {
  day(time: number): number
  midnight(day: number): number
}

const UTC: Days = { day: (time) => Math.floor(time / DAY), midnight: (day) => day * DAY }

function midnights(timeZone: string, where: string): Days {
  let format: Intl.DateTimeFormat
  try {
    format = new Intl.DateTimeFormat('en', {
      timeZone,
      calendar: 'iso8601',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
    })
  } catch {
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: timeZone must be one such as 'Europe/Berlin', got ${shown(timeZone)}`,
    )
  }
  const dateOf = (time: number): number => {
    const parts: Record<string, number> = {}
    for (const { type, value } of format.formatToParts(time)) parts[type] = Number(value)
    return Date.UTC(parts.year!, parts.month! - 1, parts.day!) / DAY
  }
  const known = new Map<number, number>()
  /** The first moment of a day: midnight, or where the clocks jump over it, the moment that they jump to. */
  const midnight = (day: number): number => {
    const found = known.get(day)
    if (found !== undefined) return found
    let before = day * DAY - 16 * HOUR
    let from = day * DAY + 16 * HOUR
    while (from - before > 1) {
      const middle = Math.floor((before + from) / 2)
      if (dateOf(middle) < day) before = middle
      else from = middle
    }
    if (known.size > 10_000) known.clear()
    known.set(day, from)
    return from
  }
  let last = { day: 0, from: 0, to: 0 }
  return {
    midnight,
    day(time) {
      if (time >= last.from && time < last.to) return last.day
      let day = Math.floor(time / DAY)
      while (midnight(day) > time) day--
      while (midnight(day + 1) <= time) day++
      last = { day, from: midnight(day), to: midnight(day + 1) }
      return day
    },
  }
}
