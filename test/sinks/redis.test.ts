import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import type { OpenSink, RowMeta } from '../../core/sink.ts'
import { keyValue } from '../../embedded/key-value.ts'
import { type RedisOptions, redis } from '../../sinks/redis.ts'
import { killedWriter } from '../support/killed-writer.ts'
import { connectorContext, rowMeta, sinkSuite, staged } from '../support/sink-suite.ts'
import { ROWS, writerBatch, writerSink } from '../support/sink-writer.ts'

interface Cart {
  readonly id: string
  readonly items: readonly string[]
  readonly at?: number
  readonly gone?: boolean
}

const folders: string[] = []
const folder = async () => {
  const made = await mkdtemp(join(tmpdir(), 'millrace-redis-'))
  folders.push(made)
  return made
}
afterEach(async () => {
  for (const made of folders.splice(0)) await rm(made, { recursive: true, force: true })
})

const cart = (n: number): Cart => ({ id: `cart-${n}`, items: [`item-${n}`, 'ü "quoted"\nline'] })
const never = new AbortController().signal

sinkSuite<Cart>('redis', async () => {
  const dataDir = await folder()
  return {
    sink: () => redis<Cart>({ key: (row) => row.id, ttl: 'forever' }),
    context: connectorContext(dataDir),
    rows: (count) => Array.from({ length: count }, (_, n) => cart(n)),
    async read() {
      const table = await keyValue({ path: join(dataDir, 'cache.db'), runtime: systemRuntime, readOnly: true })
      const entries = table.list({ limit: 1_000_000 })
      await table.close()
      return entries.map(({ value }) => value)
    },
    unencodable: { id: '', items: [] },
    close: async () => undefined,
  }
})

/** A sink on a clock of its own, and what other programs see. */
async function setUp(options: Partial<RedisOptions<Cart>> = {}) {
  const dataDir = await folder()
  let now = 1_000_000
  const runtime = { ...systemRuntime, now: () => now }
  const open = await redis<Cart>({ key: (row) => row.id, ttl: 'forever', ...options }).open(
    connectorContext(dataDir, { runtime }),
  )
  const table = await keyValue({ path: join(dataDir, 'cache.db'), runtime, readOnly: true })
  let version = 0
  const meta: RowMeta = { ...rowMeta(0), now: () => now, version: () => ++version }
  return {
    open,
    table,
    encode: (rows: readonly Cart[]) => delivery(open, rows, meta),
    advance: (ms: number) => (now += ms),
    async close() {
      await table.close()
      await open.close()
    },
  }
}

function delivery(open: OpenSink<Cart>, rows: readonly Cart[], meta: RowMeta) {
  const encoder = open.encoder('t/0/0')
  return {
    ...staged(open, []),
    body: Buffer.from(rows.map((row) => encoder.row(row, meta)).join('')),
    rows: rows.length,
  }
}

test('a key is gone when its time to live has passed, and a batch that is sent again does not lengthen it', async () => {
  const { open, table, encode, advance, close } = await setUp({ ttl: '10m' })
  const batch = encode([cart(1)])
  await open.deliver(batch, never)
  advance(599_999)
  expect(table.get('cart-1')?.value).toEqual(cart(1))
  await open.deliver(batch, never)
  advance(1)
  expect(table.get('cart-1')).toBeUndefined()
  expect([table.size(), table.list()]).toEqual([0, []])
  await open.deliver(batch, never)
  expect(table.get('cart-1')).toBeUndefined()
  await close()
})

test('without versions of the author the newest row wins, also over an older batch that comes again', async () => {
  const { open, table, encode, close } = await setUp()
  const older = encode([{ id: 'a', items: ['1'] }])
  const newer = encode([
    { id: 'a', items: ['2'] },
    { id: 'a', items: ['3'] },
  ])
  await open.deliver(older, never)
  await open.deliver(newer, never)
  await open.deliver(older, never)
  expect(table.get('a')?.value).toEqual({ id: 'a', items: ['3'] })
  await close()
})

test('the author’s versions decide, and a removal holds against an older row', async () => {
  const { open, table, encode, close } = await setUp({
    version: (row) => BigInt(row.at!),
    deleted: (row) => row.gone === true,
  })
  const seen = async (row: Cart) => {
    await open.deliver(encode([row]), never)
    return table.get('a')?.version
  }
  expect(await seen({ id: 'a', items: [], at: 5 })).toBe(5)
  expect(await seen({ id: 'a', items: ['old'], at: 4 })).toBe(5)
  expect(await seen({ id: 'a', items: [], at: 7, gone: true })).toBeUndefined()
  expect(await seen({ id: 'a', items: ['old'], at: 6 })).toBeUndefined()
  expect(await seen({ id: 'a', items: ['new'], at: 8 })).toBe(8)
  await close()
})

test('a hash keeps one text a field, and leaves out what is null', async () => {
  const { open, table, encode, close } = await setUp({
    as: 'hash',
    value: (row) => ({ id: row.id, count: row.items.length, items: row.items, none: null }),
  })
  await open.deliver(encode([{ id: 'a', items: ['x'] }]), never)
  expect(table.get('a')).toMatchObject({ kind: 'hash', value: { id: 'a', count: '1', items: '["x"]' } })
  expect(Object.keys(table.get('a')!.value as object)).toEqual(['id', 'count', 'items'])
  await close()
})

test('what is no JSON, no key or no version is refused while the row is made', async () => {
  const bad: Partial<RedisOptions<Cart>>[] = [
    { value: () => undefined },
    { value: () => 1n },
    { key: () => 7 as never },
    { version: () => 1.5 },
    { version: () => 2n ** 63n },
    { as: 'hash', value: () => 'text' },
  ]
  for (const options of bad) {
    const { encode, close } = await setUp(options)
    expect(() => encode([cart(1)])).toThrow(expect.objectContaining({ code: 'NOT_JSON' }))
    await close()
  }
})

test('a full disk is told, nothing of the batch is there, and it goes in when there is room', async ({ skip }) => {
  const disk = join(await folder(), 'disk')
  await mkdir(disk)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk])
  if (mounted.status !== 0) skip('a file system of its own cannot be mounted here, so a full disk was not tried')
  try {
    const open = await redis<Cart>({ key: (row) => row.id, ttl: 'forever' }).open(connectorContext(disk))
    await open.deliver(staged(open, [cart(1)]), never)
    await writeFile(join(disk, 'other'), Buffer.alloc(700_000))
    const large = staged(
      open,
      Array.from({ length: 3_000 }, (_, n) => cart(n)),
      { first: 10 },
    )
    expect(await open.deliver(large, never)).toMatchObject({
      kind: 'rejected',
      retry: 'later',
      reason: expect.stringContaining('full'),
    })
    const table = await keyValue({ path: join(disk, 'cache.db'), runtime: systemRuntime, readOnly: true })
    expect(table.size()).toBe(1)
    await rm(join(disk, 'other'))
    expect(await open.deliver(staged(open, [cart(2), cart(3)], { first: 10 }), never)).toEqual({ kind: 'applied' })
    expect(table.size()).toBe(3)
    await table.close()
    await open.close()
  } finally {
    spawnSync('umount', [disk])
  }
})

test('wrong options are refused when the pipeline is built, with what was wanted and what came', () => {
  const key = () => 'k'
  const build = (options: object) => () => redis({ key, ttl: '1m', ...options } as RedisOptions<Cart>)
  expect(build({ ttl: '0s', name: 'carts' })).toThrow(
    "redis \"carts\": ttl must be a positive duration such as '24h', got '0s'",
  )
  expect(build({ ttl: undefined })).toThrow('redis "redis": ttl must be')
  expect(build({ key: 'id' })).toThrow('redis "redis": key must be a function of the row, got \'id\'')
  expect(build({ version: 3 })).toThrow('redis "redis": version must be a function of the row, got 3')
  expect(build({ as: 'list' })).toThrow(
    "redis \"redis\": as must be 'json', 'string', 'hash', 'sorted-set', 'stream', 'publish', got 'list'",
  )
  expect(build({ as: 'sorted-set', member: key })).toThrow('redis "redis": score must be a function of the row')
  expect(build({ as: 'hash', score: key })).toThrow(
    "redis \"redis\": score is for as: 'sorted-set', and this is 'hash'",
  )
  expect(build({ as: 'stream', version: key })).toThrow('redis "redis": version is not for as: \'stream\'')
  expect(build({ as: 'stream', maxLength: 0 })).toThrow(
    'redis "redis": maxLength must be a positive whole number, got 0',
  )
})

test('an address that is none is refused, and stays out of the message', async () => {
  const dataDir = await folder()
  const url = 'redis://:secret@'
  const inOptions = redis<Cart>({ key: (row) => row.id, ttl: '1m', url }).open(connectorContext(dataDir))
  const inEnv = redis<Cart>({ key: (row) => row.id, ttl: '1m' }).open(
    connectorContext(dataDir, { env: { REDIS_URL: url } }),
  )
  for (const refused of [inOptions, inEnv]) {
    const error = await refused.catch((thrown) => thrown)
    expect(error).toMatchObject({ code: 'BAD_OPTION' })
    expect(error.message).not.toContain('secret')
  }
})

test('members, entries and messages are rows of their own in the embedded table', async () => {
  const shapes: [Partial<RedisOptions<Cart>>, string, unknown][] = [
    [
      { as: 'sorted-set', member: (row) => row.items[0]!, score: (row) => row.items.length },
      'a x',
      { member: 'x', score: 1 },
    ],
    [{ as: 'stream' }, 'a 1', { id: 'a', items: '["x"]' }],
    [{ as: 'publish' }, 'a 1', { id: 'a', items: ['x'] }],
    [{ as: 'string', value: (row) => row.items[0] }, 'a', 'x'],
  ]
  for (const [options, key, value] of shapes) {
    const { open, table, encode, close } = await setUp(options)
    const batch = encode([{ id: 'a', items: ['x'] }])
    for (let n = 0; n < 2; n++) expect(await open.deliver(batch, never)).toEqual({ kind: 'applied' })
    expect(table.list().map((entry) => [entry.key, entry.value])).toEqual([[key, value]])
    await close()
  }
})

test('after a kill -9 in the middle of its writing, the rest is delivered again and every key is there once', async () => {
  const dataDir = await folder()
  const { batches } = await killedWriter('redis', dataDir, 20)
  const path = join(dataDir, 'cache.db')
  const table = await keyValue({ path, runtime: systemRuntime, readOnly: true })
  // The batch that was under way is there whole, or not at all.
  expect([batches * ROWS, (batches + 1) * ROWS]).toContain(table.size())
  const open = await writerSink('redis', dataDir).open(connectorContext(dataDir))
  for (let n = batches; n < batches + 3; n++) await open.deliver({ ...writerBatch(open, n), afterUnknown: true }, never)
  await open.close()
  expect(table.size()).toBe((batches + 3) * ROWS)
  await table.close()
})
