import { MillraceError } from './errors.ts'

/** A length of time: a number and its unit, such as `'250ms'`, `'30s'`, `'24h'`. */
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`
/** A number of bytes and its unit, such as `'4MB'`; units are powers of 1,024. */
export type Size = `${number}${'B' | 'KB' | 'MB' | 'GB'}`

const MILLISECONDS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const BYTES = { B: 1, KB: 1_024, MB: 1_048_576, GB: 1_073_741_824 } as const

/**
 * The milliseconds of a duration.
 *
 * @param where names the option for the message of the error, such as `dedup "dedup": within`
 * @throws MillraceError BAD_OPTION when the text is no duration, or is not positive and `zero` is not allowed
 */
export function milliseconds(text: Duration, where: string, { zero = false }: { zero?: boolean } = {}): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(String(text))
  const value = match ? Number(match[1]) * MILLISECONDS[match[2] as keyof typeof MILLISECONDS] : Number.NaN
  if (Number.isFinite(value) && (value > 0 || (zero && value === 0))) return value
  const wanted = zero ? "a duration such as '1m' or '0s'" : "a positive duration such as '24h'"
  throw new MillraceError('BAD_OPTION', `${where} must be ${wanted}, got ${shown(text)}`)
}

/**
 * The bytes of a size.
 *
 * @throws MillraceError BAD_OPTION when the text is no positive size
 */
export function bytes(text: Size, where: string): number {
  const match = /^(\d+(?:\.\d+)?)(B|KB|MB|GB)$/.exec(String(text))
  const value = match ? Math.floor(Number(match[1]) * BYTES[match[2] as keyof typeof BYTES]) : Number.NaN
  if (Number.isFinite(value) && value > 0) return value
  throw new MillraceError('BAD_OPTION', `${where} must be a positive size such as '4MB', got ${shown(text)}`)
}

/** A value as it is quoted in a message. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 57)}...` : value}'`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object'
  return String(value)
}
