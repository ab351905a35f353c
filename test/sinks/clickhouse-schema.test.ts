import { expect, test } from 'vitest'
import { z } from 'zod'
import { columnsOf } from '../../sinks/clickhouse-schema.ts'

const of = (shape: z.ZodRawShape) => columnsOf(z.object(shape))?.columns

test('fields become columns of the types that hold them', () => {
  expect(
    of({
      text: z.string(),
      set: z.enum(['a', 'b']),
      one: z.literal('a'),
      whole: z.number().int(),
      number: z.number(),
      flag: z.boolean(),
      date: z.date(),
      big: z.bigint(),
      list: z.array(z.number()),
      gaps: z.array(z.string().nullable()),
      object: z.object({ a: z.string() }),
      record: z.record(z.string(), z.number()),
    }),
  ).toEqual({
    text: 'String',
    set: 'LowCardinality(String)',
    one: 'LowCardinality(String)',
    whole: 'Int64',
    number: 'Float64',
    flag: 'Bool',
    date: 'DateTime64(3)',
    big: 'Int64',
    list: 'Array(Float64)',
    gaps: 'Array(Nullable(String))',
    object: 'JSON',
    record: 'JSON',
  })
})

test('what may be null or absent is Nullable, where ClickHouse has it', () => {
  expect(
    of({
      a: z.string().nullable(),
      b: z.number().optional(),
      c: z.enum(['x']).nullish(),
      d: z.array(z.string()).optional(),
      e: z.union([z.string(), z.null()]),
      f: z.string().default('x'),
      g: z.date().nullable(),
    }),
  ).toEqual({
    a: 'Nullable(String)',
    b: 'Nullable(Float64)',
    c: 'LowCardinality(Nullable(String))',
    d: 'Array(String)',
    e: 'Nullable(String)',
    f: 'String',
    g: 'Nullable(DateTime64(3))',
  })
})

test('a union of objects has the columns of all; a field that some lack is Nullable', () => {
  const union = z.discriminatedUnion('type', [
    z.object({ type: z.literal('view'), item: z.string() }),
    z.object({ type: z.literal('buy'), item: z.string(), amount: z.number() }),
  ])
  expect(columnsOf(union)).toEqual({
    columns: { type: 'LowCardinality(String)', item: 'String', amount: 'Nullable(Float64)' },
    unclear: [],
  })
})

test('fields that no one column holds are named', () => {
  const odd = z.object({ id: z.string(), odd: z.union([z.string(), z.number()]), any: z.unknown() })
  expect(columnsOf(odd)).toEqual({ columns: { id: 'String' }, unclear: ['odd', 'any'] })
})

test('what is no object, or does not say itself, gives no columns', () => {
  for (const schema of [
    undefined,
    {},
    z.string(),
    z.array(z.object({ a: z.string() })),
    { '~standard': { version: 1 } },
  ])
    expect(columnsOf(schema)).toBeUndefined()
})
