/** A version: the source's own number of what it says. Text is a bigint's. */
export type Version = number | string | null

/** What a source said of a field: its place in `trust`, the event time, its version, the value (null clears the field). */
export type Say = readonly [rank: number, time: number, version: Version, value: unknown]

/** A text that is the same for the same JSON, whatever the order of its fields. */
export function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`
  const fields = Object.entries(value).filter(([, held]) => held !== undefined)
  return `{${fields
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, held]) => `${JSON.stringify(name)}:${canonical(held)}`)
    .join()}}`
}

export const same = (a: unknown, b: unknown): boolean =>
  a === b || (typeof a === 'object' && typeof b === 'object' && canonical(a) === canonical(b))

/** A total order on JSON: numbers by size, everything else by its text. */
export function byValue(a: unknown, b: unknown): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b
  const [x, y] = [canonical(a), canonical(b)]
  return x < y ? -1 : x > y ? 1 : 0
}

export const stored = (version: number | bigint | undefined): Version =>
  version === undefined ? null : typeof version === 'bigint' ? String(version) : version

const compared = (version: number | string): number | bigint =>
  typeof version === 'string' ? BigInt(version) : version

export function byVersion(a: Version, b: Version): number {
  // what has no version comes before all that has one, so that the order is one for both
  if (a === null || b === null) return Number(a !== null) - Number(b !== null)
  const [x, y] = [compared(a), compared(b)]
  return x < y ? -1 : x > y ? 1 : 0
}

/** The order of what one source says: by its versions, then by time, then by value. */
export function ofOneSource([, time, version, value]: Say, [, otherTime, otherVersion, otherValue]: Say): number {
  return byVersion(version, otherVersion) || time - otherTime || byValue(value, otherValue)
}

/** The order of what several sources say: by time, then by trust, then by value. */
export function ofAll([rank, time, , value]: Say, [otherRank, otherTime, , otherValue]: Say): number {
  return time - otherTime || otherRank - rank || byValue(value, otherValue)
}
