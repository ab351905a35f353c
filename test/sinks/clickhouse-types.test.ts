import fc from 'fast-check'
import { expect, test } from 'vitest'
import { shaper, takesNull } from '../../sinks/clickhouse-types.ts'

const date = new Date(1_700_000_000_123)

test.each<[type: string, value: unknown, shaped: unknown]>([
  ['String', 'a', 'a'],
  ['LowCardinality(String)', '', ''],
  ['LowCardinality(Nullable(String))', undefined, null],
  ['Nullable(Int64)', null, null],
  ['Nullable(Int64)', 3, 3],
  ['UInt8', 255, 255],
  ['UInt8', true, 1],
  ['Int64', -(2n ** 63n), '-9223372036854775808'],
  ['UInt64', '18446744073709551615', '18446744073709551615'],
  ['Int256', 5n, '5'],
  ['Float64', 1.5, 1.5],
  ['Float64', 3n, '3'],
  ['Decimal(12, 2)', '12.30', '12.30'],
  ['Decimal(12, 2)', 12.3, 12.3],
  ['Bool', false, false],
  ['UUID', '4e2b…', '4e2b…'],
  ["Enum8('a' = 1, 'b\\n' = 2)", 'a', 'a'],
  ['Date', date, '2023-11-14'],
  ['Date', '2024-01-01', '2024-01-01'],
  ['DateTime', date, 1_700_000_000],
  ["DateTime('UTC')", 1_700_000_000_999, 1_700_000_000],
  ['DateTime64(3)', date, 1_700_000_000_123],
  ['DateTime64(3)', 1_700_000_000_123.7, 1_700_000_000_123],
  ["DateTime64(6, 'UTC')", 1_700_000_000_123.25, 1_700_000_000_123_250],
  ['DateTime64(0)', date, 1_700_000_000],
  ['DateTime64(9)', date, '2023-11-14T22:13:20.123Z'],
  ['DateTime64(3)', '2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z'],
  ['Array(String)', ['a'], ['a']],
  ['Array(String)', undefined, []],
  ['JSON', { a: 1 }, { a: 1 }],
  ['Map(String, Int64)', null, {}],
  ['Dynamic', 5, 5],
])('%s takes %o as %o', (type, value, shaped) => {
  expect(shaper(type)(value)).toEqual(shaped)
})

test.each<[type: string, value: unknown, wanted: RegExp]>([
  ['String', 1, /text/],
  ['String', null, /text/],
  ['String', { a: 1 }, /text/],
  ['LowCardinality(String)', undefined, /text/],
  ['UInt8', 256, /from 0 to 255/],
  ['UInt8', -1, /from 0 to 255/],
  ['Int32', 1.5, /whole number/],
  ['Int64', 2 ** 53, /whole number/],
  ['Int64', 2n ** 63n, /whole number/],
  ['UInt64', '1e3', /whole number/],
  ['UInt16', true, /whole number/],
  ['Float64', Number.NaN, /finite/],
  ['Float64', '1', /finite/],
  ['Decimal(9, 2)', 'x', /digits/],
  ['Bool', 1, /true or false/],
  ['DateTime', -1, /1970/],
  ['DateTime', 4_294_967_296_000, /2106/],
  ['DateTime64(3)', Number.NaN, /Date/],
  ['DateTime64(3)', '', /Date/],
  ['DateTime64(3)', 1e15, /2299/],
  ['Date', new Date(Number.NaN), /Date/],
  ['Array(String)', 'a', /array/],
  ['JSON', 'a', /object/],
  ['Dynamic', undefined, /value/],
])('%s refuses %o', (type, value, wanted) => {
  expect(() => shaper(type)(value)).toThrow(wanted)
})

test('whole numbers within the range of a type keep every digit', () => {
  fc.assert(
    fc.property(fc.constantFrom(8, 16, 32, 64, 128, 256), fc.boolean(), fc.bigInt(), (bits, unsigned, value) => {
      const low = unsigned ? 0n : -(2n ** BigInt(bits - 1))
      const high = unsigned ? 2n ** BigInt(bits) - 1n : 2n ** BigInt(bits - 1) - 1n
      const shape = shaper(`${unsigned ? 'U' : ''}Int${bits}`)
      if (value < low || value > high) expect(() => shape(value)).toThrow()
      else expect(shape(value)).toBe(String(value))
    }),
  )
})

test('only nullable types take null', () => {
  expect(['Nullable(String)', 'LowCardinality(Nullable(String))', 'Dynamic'].every(takesNull)).toBe(true)
  expect(['String', 'Array(Nullable(String))', 'LowCardinality(String)'].some(takesNull)).toBe(false)
})
