import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { jsonText } from '../../core/json-text.ts'

describe('the JSON text of a value', () => {
  test('is what JSON.stringify gives, and says truly whether it gives the same value back', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const { text, exact } = jsonText(value)
        expect(text).toBe(JSON.stringify(value))
        if (exact) expect(JSON.parse(text)).toStrictEqual(value)
      }),
      { numRuns: 2_000 },
    )
  })

  const cycle: Record<string, unknown> = { name: 'a' }
  cycle.list = [{ back: cycle }]
  let deep: unknown = 1
  for (let i = 0; i < 20_000; i++) deep = [deep]

  test.each([
    [undefined, 'value is undefined'],
    [Number.NaN, 'value is NaN'],
    [{ total: Number.POSITIVE_INFINITY }, 'value.total is Infinity'],
    [{ lines: [{ price: 1 }, { price: 2n }] }, 'value.lines[1].price is a bigint'],
    [[1, undefined], 'value[1] is undefined'],
    [new Array(2), 'value[0] is undefined'],
    [{ at: new Date(0) }, 'value.at is an instance of Date'],
    [{ seen: new Map() }, 'value.seen is an instance of Map'],
    [{ seen: new Set() }, 'value.seen is an instance of Set'],
    [{ bytes: new Uint8Array(1) }, 'value.bytes is an instance of Uint8Array'],
    [{ f: () => 1 }, 'value.f is a function'],
    [{ s: Symbol('s') }, 'value.s is a symbol'],
    [{ inner: { [Symbol('s')]: 1 } }, 'value.inner is an object with symbols for names'],
    [new (class Cart {})(), 'value is an instance of Cart'],
    [new String('a'), 'value is an instance of String'],
    [cycle, 'value.list[0].back is a cycle'],
    [{ 'ann@example.com has a long and secret name': Number.NaN }, 'value[…] is NaN'],
    [{ toJSON: () => 1 }, 'value.toJSON is a function'],
    [deep, 'levels deep'],
  ])('is refused for %#, with the path of the offender', (value, message) => {
    expect(() => jsonText(value)).toThrow(
      expect.objectContaining({ code: 'NOT_JSON', message: expect.stringContaining(message) }),
    )
  })

  test('leaves out fields that are undefined, and says that it did', () => {
    expect(jsonText({ a: 1, b: undefined })).toEqual({ text: '{"a":1}', exact: false })
    expect(jsonText({ zero: -0 })).toEqual({ text: '{"zero":0}', exact: false })
    expect(jsonText(Object.assign(Object.create(null), { a: 1 }))).toEqual({ text: '{"a":1}', exact: false })
    expect(jsonText({ a: 1, b: [null, ''] })).toEqual({ text: '{"a":1,"b":[null,""]}', exact: true })
  })

  test('may hold the same object twice', () => {
    const shared = { a: 1 }
    expect(jsonText([shared, shared]).text).toBe('[{"a":1},{"a":1}]')
  })
})
