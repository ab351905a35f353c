type Base<V> = V extends string
  ? 'String' | 'LowCardinality(String)' | 'UUID' | 'Date' | `Decimal(${number}, ${number})` | `Enum8(${string})`
  : V extends number
    ?
        | 'UInt8'
        | 'UInt16'
        | 'UInt32'
        | 'UInt64'
        | 'Int32'
        | 'Int64'
        | 'Float64'
        | 'DateTime'
        | 'DateTime64(3)'
        | `Decimal(${number}, ${number})`
    : V extends bigint
      ? 'UInt64' | 'Int64'
      : V extends boolean
        ? 'Bool'
        : V extends Date
          ? 'Date' | 'DateTime' | 'DateTime64(3)'
          : 'JSON' | `Array(${string})` | `Map(${string})`

type Column<V> =
  NonNullable<V> extends readonly unknown[]
    ? `Array(${string})`
    : [Extract<V, null | undefined>] extends [never]
      ? Base<V>
      : `Nullable(${Base<NonNullable<V>>})`

/** One ClickHouse type a field. A field that may be null or absent is `Nullable(…)`. */
export type Columns<R> = { readonly [P in keyof R]-?: Column<R[P]> }

/** Turns a field's value into what its column takes as JSON. It throws a TypeError that says what was wanted. */
export type Shaper = (value: unknown) => unknown

/**
 * How a column of a ClickHouse type takes its values. ClickHouse itself would take much in silence: an integer that
 * does not fit wraps, an object becomes a string. Here it is an error, so that the row becomes a dead letter.
 *
 * - integers: a whole number, a bigint or its digits, within the type's range; above 2^53 they travel as digits
 * - floats: a finite number; `Decimal`: a number, a bigint or its digits
 * - `DateTime`, `DateTime64`: a `Date` or epoch milliseconds, or text that ClickHouse reads as a date; `Date`: the same, in UTC
 * - `Nullable`: also null and undefined, which is written as null
 * - arrays, maps, tuples, JSON: an object or array as `JSON.stringify` writes it; the server checks what is in it. They
 *   cannot be null in ClickHouse: null and undefined are written as the empty one
 */
export function shaper(type: string): Shaper {
  const nullable = wrapped(type, 'Nullable') ?? wrapped(wrapped(type, 'LowCardinality') ?? '', 'Nullable')
  if (nullable !== undefined) {
    const inner = shaper(nullable)
    return (value) => (value === null || value === undefined ? null : inner(value))
  }
  const plain = wrapped(type, 'LowCardinality') ?? type
  const integer = /^(U?)Int(8|16|32|64|128|256)$/.exec(plain)
  if (integer) return wholeNumber(integer[1] === 'U', Number(integer[2]))
  if (/^(Float32|Float64|BFloat16)$/.test(plain)) return finite
  if (/^Decimal/.test(plain)) return decimal
  if (plain === 'Bool') return boolean
  if (/^(Date|Date32)$/.test(plain)) return day
  if (/^DateTime(\(|$)/.test(plain)) return second
  const fraction = /^DateTime64\((\d)/.exec(plain)
  if (fraction) return instant(Number(fraction[1]))
  if (/^(Array|Nested)\(/.test(plain)) return array
  if (/^(String|FixedString\(\d+\)|UUID|IPv4|IPv6|Enum(8|16)?\(.*\))$/s.test(plain)) return text
  return /^(Dynamic|Variant\()/.test(plain) ? anything : structure
}

/** Whether a type takes null. */
export function takesNull(type: string): boolean {
  return /^(LowCardinality\()?Nullable\(/.test(type) || /^(Dynamic|Variant\()/.test(type)
}

function wrapped(type: string, by: string): string | undefined {
  return type.startsWith(`${by}(`) && type.endsWith(')') ? type.slice(by.length + 1, -1) : undefined
}

function text(value: unknown): unknown {
  if (typeof value === 'string') return value
  throw new TypeError('text')
}

function boolean(value: unknown): unknown {
  if (typeof value === 'boolean') return value
  throw new TypeError('true or false')
}

function finite(value: unknown): unknown {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (typeof value === 'bigint') return String(value)
  throw new TypeError('a finite number')
}

function decimal(value: unknown): unknown {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'string' && /^[+-]?\d+(\.\d+)?$/.test(value)) return value
  throw new TypeError('a finite number, or its digits as text')
}

function wholeNumber(unsigned: boolean, bits: number): Shaper {
  const low = unsigned ? 0n : -(2n ** BigInt(bits - 1))
  const high = unsigned ? 2n ** BigInt(bits) - 1n : 2n ** BigInt(bits - 1) - 1n
  const safeLow = Math.max(Number(low), Number.MIN_SAFE_INTEGER)
  const safeHigh = Math.min(Number(high), Number.MAX_SAFE_INTEGER)
  return (value) => {
    if (typeof value === 'number') {
      if (Number.isInteger(value) && value >= safeLow && value <= safeHigh) return value
    } else if (typeof value === 'bigint' || (typeof value === 'string' && /^-?\d{1,80}$/.test(value))) {
      const whole = BigInt(value)
      if (whole >= low && whole <= high) return String(whole)
    } else if (typeof value === 'boolean' && bits === 8) return value ? 1 : 0
    throw new TypeError(`a whole number from ${low} to ${high}`)
  }
}

function milliseconds(value: unknown): number {
  const ms = value instanceof Date ? value.getTime() : value
  if (typeof ms === 'number' && Number.isFinite(ms)) return ms
  throw new TypeError('a Date, epoch milliseconds, or a date as text')
}

const LAST_SECOND = 4_294_967_295
/** 1900-01-01 and the last instant of 2299: what DateTime64 holds for sure. */
const FIRST_INSTANT = -2_208_988_800_000
const LAST_INSTANT = 10_413_791_999_999

function day(value: unknown): unknown {
  if (typeof value === 'string' && value !== '') return value
  const ms = milliseconds(value)
  if (ms < FIRST_INSTANT || ms > LAST_INSTANT) throw new TypeError('a date from 1900 to 2299')
  return new Date(ms).toISOString().slice(0, 10)
}

function second(value: unknown): unknown {
  if (typeof value === 'string' && value !== '') return value
  const seconds = Math.floor(milliseconds(value) / 1_000)
  if (seconds < 0 || seconds > LAST_SECOND) throw new TypeError('a time from 1970 to 2106, in milliseconds')
  return seconds
}

/** A bare number in a DateTime64 column counts the column's own fractions of a second. */
function instant(digits: number): Shaper {
  const fractions = 10 ** (digits - 3)
  return (value) => {
    if (typeof value === 'string' && value !== '') return value
    const ms = milliseconds(value)
    if (ms < FIRST_INSTANT || ms > LAST_INSTANT) throw new TypeError('a time from 1900 to 2299, in milliseconds')
    if (digits <= 3) return Math.floor(ms * fractions)
    const ticks = BigInt(Math.floor(ms)) * BigInt(fractions) + BigInt(Math.floor((ms - Math.floor(ms)) * fractions))
    if (ticks >= Number.MIN_SAFE_INTEGER && ticks <= Number.MAX_SAFE_INTEGER) return Number(ticks)
    return new Date(ms).toISOString()
  }
}

function array(value: unknown): unknown {
  if (value === null || value === undefined) return []
  if (Array.isArray(value)) return value
  throw new TypeError('an array')
}

function structure(value: unknown): unknown {
  if (value === null || value === undefined) return {}
  if (typeof value === 'object') return value
  throw new TypeError('an object')
}

function anything(value: unknown): unknown {
  if (value !== undefined && typeof value !== 'function' && typeof value !== 'symbol') return value
  throw new TypeError('a value')
}
