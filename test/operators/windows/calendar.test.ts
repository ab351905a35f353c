import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { calendar } from '../../../operators/windows/calendar.ts'

const HOUR = 3_600_000
const iso = (time: number) => new Date(time).toISOString().slice(0, 16)

describe('days of Berlin', () => {
  const days = calendar(24 * HOUR, 'Europe/Berlin', 'x')

  test.each([
    ['2026-03-29T10:00Z', '2026-03-28T23:00', 23],
    ['2026-10-25T10:00Z', '2026-10-24T22:00', 25],
    ['2026-07-01T21:59Z', '2026-06-30T22:00', 24],
    ['2026-07-01T22:00Z', '2026-07-01T22:00', 24],
  ])('the day of %s begins at %s and has %d hours', (time, begins, hours) => {
    const start = days.floor(Date.parse(time))
    expect(iso(start)).toBe(begins)
    expect(days.next(start) - start).toBe(hours * HOUR)
  })
})

test('where the clocks jump over midnight, the day begins with the moment they jump to', () => {
  const days = calendar(24 * HOUR, 'America/Santiago', 'x')
  const start = days.floor(Date.parse('2026-09-06T12:00Z'))
  expect(iso(start)).toBe('2026-09-06T04:00')
  expect(days.next(start) - start).toBe(23 * HOUR)
})

test('weeks begin on Monday', () => {
  const weeks = calendar(7 * 24 * HOUR, undefined, 'x')
  expect(iso(weeks.floor(Date.parse('2026-11-24T12:00Z')))).toBe('2026-11-23T00:00')
  expect(iso(weeks.next(weeks.floor(Date.parse('2026-11-29T23:59Z'))))).toBe('2026-11-30T00:00')
})

test('pieces of a day are counted from its midnight, and the last one ends with it', () => {
  const pieces = calendar(6 * HOUR, 'Europe/Berlin', 'x')
  const starts: string[] = []
  for (
    let at = pieces.floor(Date.parse('2026-10-25T00:00Z'));
    at < Date.parse('2026-10-26T00:00Z');
    at = pieces.next(at)
  )
    starts.push(iso(at))
  expect(starts).toEqual([
    '2026-10-24T22:00',
    '2026-10-25T04:00',
    '2026-10-25T10:00',
    '2026-10-25T16:00',
    '2026-10-25T22:00',
    '2026-10-25T23:00',
  ])
})

test.each([
  [60_000, undefined],
  [24 * HOUR, undefined],
  [7 * 24 * HOUR, 'America/New_York'],
  [24 * HOUR, 'Australia/Lord_Howe'],
  [3 * 24 * HOUR, 'Asia/Kolkata'],
  [8 * HOUR, 'Africa/Cairo'],
])('pieces of %d ms in %s meet without a hole', (length, timeZone) => {
  const { floor, next, longest } = calendar(length, timeZone, 'x')
  fc.assert(
    fc.property(fc.integer({ min: -1e12, max: 2e12 }), (time) => {
      const start = floor(time)
      const end = next(start)
      expect(start <= time && time < end).toBe(true)
      expect(floor(start)).toBe(start)
      expect(floor(end)).toBe(end)
      expect(floor(end - 1)).toBe(start)
      expect(end - start).toBeLessThanOrEqual(longest)
    }),
    { numRuns: 40 },
  )
})
