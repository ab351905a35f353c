import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import avro from 'avsc'
import protobuf from 'protobufjs'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import type { RawRecord, Reader } from '../../core/source.ts'
import { type RegistryFormat, type SchemaRegistry, Schemas, withSchemas } from '../../kafka/registry.ts'
import { kafkaSource } from '../../sources/kafka.ts'
import { connectorContext } from '../support/sink-suite.ts'

interface Registered {
  readonly schema: string
  readonly schemaType?: string
  readonly references?: readonly { name: string; subject: string; version: number }[]
}

/** What the registry holds, by number and by subject, and how it is; it answers over HTTP as Confluent's does. */
let byId: Record<number, Registered> = {}
let bySubject: Record<string, Registered> = {}
let status = 200
let asked: string[] = []
const server = createServer((request, response) => {
  asked.push(request.url!)
  const answer = (code: number, body: unknown) => {
    response.writeHead(code, { 'content-type': 'application/vnd.schemaregistry.v1+json' }).end(JSON.stringify(body))
  }
  if (request.headers.authorization !== `Basic ${Buffer.from('app:secret').toString('base64')}`) return answer(401, {})
  if (status !== 200) return answer(status, { message: 'not now' })
  const id = /^\/schemas\/ids\/(\d+)$/.exec(request.url!)?.[1]
  const found = id ? byId[Number(id)] : bySubject[decodeURIComponent(request.url!.split('/')[2]!)]
  return found ? answer(200, found) : answer(404, { error_code: 40403, message: 'Schema not found' })
})
let url = ''
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => new Promise((resolve) => server.close(resolve)))
beforeEach(() => {
  byId = {}
  bySubject = {}
  status = 200
  asked = []
})

const auth = { username: 'app', password: 'secret' }
const framed = (id: number, ...bytes: Uint8Array[]) => {
  const head = Buffer.alloc(5)
  head.writeInt32BE(id, 1)
  return Buffer.concat([head, ...bytes])
}
const raw = (bytes: Buffer, position: number): RawRecord => ({
  position,
  next: position + 1,
  value: bytes,
  bytes: () => bytes,
})

/** Reads these values through a reader that waits for their schemas. */
async function decoded(
  format: RegistryFormat,
  values: readonly Buffer[],
  options: SchemaRegistry = {},
): Promise<unknown[]> {
  const schemas = new Schemas(url, format, { auth, ...options }, systemRuntime)
  const reader = withSchemas(readerOf(values), schemas)
  const records = (await reader.read({ records: 100, bytes: 1e6 }))!
  return records.map(({ bytes, position }) => {
    try {
      return schemas.decode(bytes() as Buffer, position)
    } catch (error) {
      return error
    }
  })
}

function readerOf(values: readonly Buffer[]): Reader {
  let left: readonly Buffer[] | undefined = values
  return {
    async read() {
      const records = left?.map(raw) ?? null
      left = undefined
      return records
    },
    more: async () => undefined,
    lag: async () => 0,
    close: async () => undefined,
  }
}

const ORDER = {
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'id', type: 'string' },
    { name: 'at', type: 'long' },
  ],
} as const

test('Avro: each record is read with the schema of its writer, which is asked for once', async () => {
  const newer = { ...ORDER, fields: [...ORDER.fields, { name: 'price', type: ['null', 'double'], default: null }] }
  byId = { 1: { schema: JSON.stringify(ORDER) }, 2: { schema: JSON.stringify(newer), schemaType: 'AVRO' } }
  const one = avro.Type.forSchema(ORDER as never).toBuffer({ id: 'a', at: 1_700_000_000_000 })
  const two = avro.Type.forSchema(newer as never).toBuffer({ id: 'b', at: 2, price: 9.5 })
  expect(await decoded('avro', [framed(1, one), framed(2, two), framed(1, one)])).toEqual([
    { id: 'a', at: 1_700_000_000_000 },
    { id: 'b', at: 2, price: 9.5 },
    { id: 'a', at: 1_700_000_000_000 },
  ])
  expect(asked.sort()).toEqual(['/schemas/ids/1', '/schemas/ids/2'])
})

test('Avro: a reader’s schema gives what a writer did not know its default, and leaves away what nobody asked for', async () => {
  const older = { ...ORDER, fields: [...ORDER.fields, { name: 'note', type: 'string' }] }
  byId = { 1: { schema: JSON.stringify(older) } }
  const readerSchema = { ...ORDER, fields: [...ORDER.fields, { name: 'currency', type: 'string', default: 'EUR' }] }
  const value = framed(1, avro.Type.forSchema(older as never).toBuffer({ id: 'a', at: 1, note: 'x' }))
  expect(await decoded('avro', [value], { readerSchema })).toEqual([{ id: 'a', at: 1, currency: 'EUR' }])
})

test('Avro: types of other subjects are fetched with it', async () => {
  const money = { type: 'record', name: 'Money', namespace: 'shop', fields: [{ name: 'cents', type: 'int' }] }
  const cart = { type: 'record', name: 'Cart', namespace: 'shop', fields: [{ name: 'total', type: 'shop.Money' }] }
  byId = {
    7: { schema: JSON.stringify(cart), references: [{ name: 'shop.Money', subject: 'shop/money', version: 3 }] },
  }
  bySubject = { 'shop/money': { schema: JSON.stringify(money) } }
  const whole = avro.Type.forSchema({ ...cart, fields: [{ name: 'total', type: money }] } as never)
  expect(await decoded('avro', [framed(7, whole.toBuffer({ total: { cents: 5 } }))])).toEqual([{ total: { cents: 5 } }])
})

const PROTO = `
syntax = "proto3";
package shop;
import "money.proto";
import "google/protobuf/timestamp.proto";
message Ignored { string a = 1; }
message Order {
  enum State { NEW = 0; PAID = 1; }
  message Line { string item_id = 1; }
  string id = 1; int64 occurred_at = 2; State state = 3; repeated Line lines = 4; Money total = 5;
  google.protobuf.Timestamp placed = 6;
}`
const MONEY = 'syntax = "proto3"; package shop; message Money { int32 cents = 1; }'

function order(value: object, extra = ''): Buffer {
  const root = new protobuf.Root()
  protobuf.parse(MONEY, root)
  root.addJSON((protobuf.common.get('google/protobuf/timestamp.proto') as { nested: never }).nested)
  protobuf.parse(PROTO.replace('placed = 6;', `placed = 6; ${extra}`), root)
  root.resolveAll()
  const type = root.lookupType('shop.Order')
  return Buffer.from(type.encode(type.fromObject(value)).finish())
}

test('Protobuf: the message that is named, with its imports, enums by name, and numbers of 64 bits as numbers', async () => {
  byId = {
    4: { schema: PROTO, schemaType: 'PROTOBUF', references: [{ name: 'money.proto', subject: 'money', version: 1 }] },
  }
  bySubject = { money: { schema: MONEY, schemaType: 'PROTOBUF' } }
  const second = Buffer.from([2, 2]) // one index, zig-zag: 1
  const inner = Buffer.from([4, 2, 0]) // two indexes: the first message in the second one
  const value = {
    id: 'a',
    occurredAt: 1_700_000_000_000,
    state: 'PAID',
    lines: [{ itemId: 'i1' }],
    total: { cents: 3 },
    placed: { seconds: 5 },
  }
  const line = Buffer.from([0x0a, 2, 0x69, 0x39])
  expect(
    await decoded('protobuf', [
      framed(4, second, order(value)),
      framed(4, inner, line),
      framed(4, Buffer.from([0]), Buffer.from([0x0a, 1, 0x78])),
    ]),
  ).toEqual([{ ...value, placed: { seconds: 5, nanos: 0 } }, { itemId: 'i9' }, { a: 'x' }])
  // a field of a newer writer is stepped over, a number that none can hold is refused
  const newer = framed(4, second, order({ id: 'b', more: 'x' }, 'string more = 9;'))
  const large = framed(4, second, order({ id: 'c', occurredAt: '9007199254740993' }))
  const [one, two] = await decoded('protobuf', [newer, large])
  expect(one).toMatchObject({ id: 'b', occurredAt: 0, state: 'NEW', lines: [] })
  expect(two).toMatchObject({ code: 'UNDECODABLE', message: expect.stringContaining('does not fit its schema 4') })
})

test('JSON Schema: JSON behind the number of a schema', async () => {
  byId = { 9: { schema: '{"type":"object"}', schemaType: 'JSON' } }
  expect(await decoded('json-schema', [framed(9, Buffer.from('{"id":"grün"}'))])).toEqual([{ id: 'grün' }])
})

test('what is not of the format, fits no schema or has none is a dead letter, and the rest is read', async () => {
  byId = {
    1: { schema: JSON.stringify(ORDER) },
    2: { schema: '{}', schemaType: 'JSON' },
    3: { schema: '{"type":"nonsense"}' },
  }
  const good = framed(1, avro.Type.forSchema(ORDER as never).toBuffer({ id: 'a', at: 1 }))
  const secret = framed(1, Buffer.from([0x7f, ...Buffer.from('secret')]))
  const values = await decoded('avro', [Buffer.from('{"id":1}'), framed(5), framed(2), framed(3), secret, good])
  expect(values.map((value) => (value instanceof Error ? value.message : value))).toEqual([
    expect.stringMatching(/record 0 does not begin with a zero byte/),
    'record 1: the schema registry has no schema 5',
    "schema 2 is JSON, but the source says format: 'avro'",
    expect.stringMatching(/schema 3 of the registry cannot be used/),
    'record 4 does not fit its schema 1; see its bytes in the dead letters',
    { id: 'a', at: 1 },
  ])
  for (const value of values.slice(0, 5)) expect(value).toMatchObject({ code: 'UNDECODABLE' })
})

test('a registry that is down loses no record: the same ones are read when it is back', async () => {
  byId = { 1: { schema: JSON.stringify(ORDER) } }
  status = 503
  const schemas = new Schemas(url, 'avro', { auth }, systemRuntime)
  const value = framed(1, avro.Type.forSchema(ORDER as never).toBuffer({ id: 'a', at: 1 }))
  const reader = withSchemas(readerOf([value]), schemas)
  await expect(reader.read({ records: 1, bytes: 1 })).rejects.toMatchObject({ code: 'SOURCE_FAILED', retriable: true })
  status = 200
  const [record] = (await reader.read({ records: 1, bytes: 1 }))!
  expect(schemas.decode(record!.bytes() as Buffer, 0)).toEqual({ id: 'a', at: 1 })
  expect(await reader.read({ records: 1, bytes: 1 })).toBeNull()
})

test('wrong credentials stop it, and are in no message', async () => {
  const schemas = new Schemas(url, 'avro', { auth: { username: 'app', password: 'hidden' } }, systemRuntime)
  const failure = await schemas.load([raw(framed(1), 0)]).catch((error: unknown) => error)
  expect(failure).toMatchObject({
    code: 'SOURCE_FAILED',
    retriable: false,
    message: expect.stringContaining('answers 401'),
  })
  expect(String(failure)).not.toContain('hidden')
})

test('options that do not fit are refused', async () => {
  expect(() => kafkaSource({ topic: 'a', format: 'xml' as never })).toThrow(
    /format must be one of json, json-schema, avro, protobuf/,
  )
  expect(() => kafkaSource({ topic: 'a', format: 'avro', registry: { url: 'nowhere' } })).toThrow(
    /registry.url must begin with http/,
  )
  expect(() => kafkaSource({ topic: 'a', registry: { readerSchema: {} } })).toThrow(/readerSchema is for format 'avro'/)
  const context = connectorContext('/nowhere', { env: { KAFKA_BROKERS: 'localhost:1' } })
  await expect(kafkaSource({ topic: 'a', format: 'avro' }).open(context, { untilEnd: true })).rejects.toThrow(
    /needs a schema registry/,
  )
})
