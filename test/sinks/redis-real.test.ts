import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import type { OpenSink, RowMeta } from '../../core/sink.ts'
import { type RedisOptions, redis } from '../../sinks/redis.ts'
import { markOf, sortable } from '../../sinks/redis-delivery.ts'
import { need } from '../support/servers/need.ts'
import { type FaultProxy, faultProxy } from '../support/servers/proxy.ts'
import { type RedisCluster, startRedisCluster } from '../support/servers/redis-cluster.ts'
import { type RedisServer, startRedis } from '../support/servers/redis-server.ts'
import { connectorContext, rowMeta, sinkSuite, staged } from '../support/sink-suite.ts'

interface Cart {
  readonly id: string
  readonly items: readonly string[]
  readonly at?: number
  readonly gone?: boolean
}

const cart = (n: number): Cart => ({ id: `cart-${n}`, items: [`item-${n}`, 'ü "quoted"\nline'] })
const never = new AbortController().signal
const context = connectorContext('nowhere')

test('versions sort as texts as they do as numbers', () => {
  const number = fc.oneof(fc.maxSafeInteger(), fc.integer({ min: -5, max: 5 }), fc.constant(Number.MAX_SAFE_INTEGER))
  const any = fc.oneof(number, fc.bigInt({ min: -(2n ** 63n) + 1n, max: 2n ** 63n - 1n }))
  const text = (version: number | bigint) => sortable(typeof version === 'bigint' ? String(version) : version)
  fc.assert(
    fc.property(any, any, (a, b) => {
      expect(text(a)).toHaveLength(20)
      expect(Math.sign(text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : 0)).toBe(a < b ? -1 : a > b ? 1 : 0)
    }),
  )
})

need('redis')('the sink on a real Redis', () => {
  let server: RedisServer
  let client: Redis
  beforeAll(async () => {
    server = await startRedis({ config: { appendonly: 'no' } })
    client = server.client()
  })
  afterAll(() => server.remove())

  /** A sink with a prefix of its own, and versions that only grow. */
  async function opened(options: Partial<RedisOptions<Cart>> = {}, url = server.url) {
    const open = await redis<Cart>({ key: (row) => row.id, ttl: 'forever', url, ...options }).open(context)
    let version = 0
    let now = systemRuntime.now()
    const meta: RowMeta = { ...rowMeta(0), now: () => now, version: () => ++version }
    return {
      open,
      encode: (rows: readonly Cart[], task?: string) => encoded(open, rows, meta, task),
      deliver: (rows: readonly Cart[]) => open.deliver(encoded(open, rows, meta), never),
      moment: (at: number) => (now = at),
    }
  }

  let places = 0
  const forms: Record<string, Partial<RedisOptions<Cart>>> = {
    json: {},
    hash: { as: 'hash' },
    string: { as: 'string', value: (row) => JSON.stringify(row) },
    'sorted-set': { as: 'sorted-set', member: (row) => JSON.stringify(row), score: (row) => row.items.length },
    stream: { as: 'stream' },
  }
  for (const [as, options] of Object.entries(forms)) {
    sinkSuite<Cart>(`redis, ${as}`, async () => {
      places += 1
      const prefix = `suite-${places}:`
      const proxy = await faultProxy({ port: server.port })
      const url = `redis://127.0.0.1:${proxy.port}`
      const whole = as === 'sorted-set' || as === 'stream'
      const cartOf = (fields: Record<string, string>) => ({ id: fields.id, items: JSON.parse(fields.items!) })
      return {
        sink: () =>
          redis<Cart>({
            key: (row) => (row.id === '' ? '' : `${prefix}${whole ? 'all' : row.id}`),
            ttl: 'forever',
            url,
            ...options,
          }),
        context,
        rows: (count) => Array.from({ length: count }, (_, n) => cart(n)),
        async read() {
          if (as === 'sorted-set')
            return (await client.zrange(`${prefix}all`, '0', '-1')).map((text) => JSON.parse(text))
          if (as === 'stream')
            return (await client.xrange(`${prefix}all`, '-', '+')).map(([, flat]) => cartOf(pairs(flat)))
          const keys = await client.keys(`${prefix}*`)
          if (as === 'hash') return Promise.all(keys.map(async (key) => cartOf(await client.hgetall(key))))
          return Promise.all(keys.map(async (key) => JSON.parse((await client.get(key))!)))
        },
        unencodable: { id: '', items: [] },
        down: () => proxy.refuse(),
        close: () => proxy.close(),
      }
    })
  }

  it('lets no older row over a newer one, whatever the order and how often they come', async () => {
    const { open, encode } = await opened({ version: (row) => row.at!, deleted: (row) => row.gone === true })
    const row = (at: number, gone = false): Cart => ({ id: 'lww', items: [String(at)], at, gone })
    const seen = async () => JSON.parse((await client.get('lww')) ?? 'null')?.at
    for (const [given, wanted] of [
      [row(5), 5],
      [row(4), 5],
      [row(5), 5],
      [row(7, true), undefined],
      [row(6), undefined],
      [row(2 ** 53 - 1), 2 ** 53 - 1],
      [row(8), 2 ** 53 - 1],
    ] as const) {
      expect(await open.deliver(encode([given]), never)).toEqual({ kind: 'applied' })
      expect(await seen()).toBe(wanted)
    }
    await open.close()
  })

  it('ends with the newest row of each key, in whatever order batches come, and however often', async () => {
    const rows = fc.array(fc.record({ key: fc.nat(5), version: fc.maxSafeInteger(), gone: fc.boolean() }), {
      minLength: 1,
      maxLength: 12,
    })
    let run = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(rows, { minLength: 1, maxLength: 6 }),
        fc.infiniteStream(fc.nat()),
        async (batches, picks) => {
          run += 1
          const key = (n: number) => `any-${run}-${n}`
          const { open, encode } = await opened({ version: (row) => row.at!, deleted: (row) => row.gone === true })
          const encodedOnes = batches.map((some) =>
            encode(some.map(({ key: n, version, gone }) => ({ id: key(n), items: [], at: version, gone }))),
          )
          for (let n = 0; n < 10; n++) await open.deliver(encodedOnes[picks.next().value % encodedOnes.length]!, never)
          for (const batch of encodedOnes) await open.deliver(batch, never)
          for (let n = 0; n <= 5; n++) {
            const own = batches.flat().filter((row) => row.key === n)
            const newest = Math.max(...own.map(({ version }) => version))
            // Of rows with equal versions the first one stays, which is for the order to say.
            const wanted = own
              .filter(({ version }) => version === newest)
              .map(({ gone }) => (gone ? undefined : newest))
            const text = await client.get(key(n))
            expect(own.length === 0 ? [undefined] : wanted).toContain(text === null ? undefined : JSON.parse(text).at)
          }
          await open.close()
        },
      ),
      { numRuns: 30 },
    )
  })

  it('tells versions of 64 bits apart, and negative ones', async () => {
    let version = 0n
    const { open, deliver } = await opened({ version: () => version })
    for (const [given, kept] of [
      [-5n, -5n],
      [-6n, -5n],
      [2n ** 62n + 1n, 2n ** 62n + 1n],
      [2n ** 62n, 2n ** 62n + 1n],
      [2n ** 63n - 1n, 2n ** 63n - 1n],
    ] as const) {
      version = given
      await deliver([{ id: 'wide', items: [String(given)] }])
      expect(JSON.parse((await client.get('wide'))!).items).toEqual([String(kept)])
    }
    await open.close()
  })

  it('lets a key live for its time from when the row was made, and its version as long again', async () => {
    const { open, encode } = await opened({ ttl: '10m' })
    const batch = encode([{ id: 'life', items: [] }])
    await open.deliver(batch, never)
    const left = await client.pttl('life')
    expect(left).toBeGreaterThan(590_000)
    expect(left).toBeLessThanOrEqual(600_000)
    expect(await client.pttl(markOf('life'))).toBeGreaterThan(1_190_000)
    await open.deliver(batch, never)
    expect(await client.pttl('life')).toBeLessThanOrEqual(left)
    await open.close()
  })

  it('does not bring back what has expired, also when its version is forgotten', async () => {
    const { open, encode, moment } = await opened({ ttl: '10m', as: 'hash' })
    moment(systemRuntime.now() - 3_600_000)
    expect(await open.deliver(encode([{ id: 'late', items: [] }]), never)).toEqual({ kind: 'applied' })
    expect(await client.exists('late', markOf('late'))).toBe(0)
    await open.close()
  })

  it('writes a hash anew, whole', async () => {
    const { open, deliver } = await opened({
      as: 'hash',
      value: (row) => Object.fromEntries(row.items.map((item) => [item, 1])),
    })
    await deliver([{ id: 'fields', items: ['a', 'b'] }])
    await deliver([{ id: 'fields', items: ['c'] }])
    expect(await client.hgetall('fields')).toEqual({ c: '1' })
    const many = Array.from({ length: 9_000 }, (_, n) => `f${n}`)
    expect(await deliver([{ id: 'fields', items: many }])).toEqual({ kind: 'applied' })
    expect(await client.hlen('fields')).toBe(9_000)
    await open.close()
  })

  it('keeps the newest score of each member, and forgets removals when it may', async () => {
    const { open, encode, moment } = await opened({
      as: 'sorted-set',
      key: () => 'rank',
      member: (row) => row.id,
      score: (row) => row.at!,
      deleted: (row) => row.gone === true,
    })
    const first = encode([
      { id: 'a', items: [], at: 1 },
      { id: 'b', items: [], at: 2 },
    ])
    await open.deliver(first, never)
    const second = encode([
      { id: 'a', items: [], at: 3 },
      { id: 'b', items: [], gone: true },
    ])
    await open.deliver(second, never)
    await open.deliver(first, never)
    expect(await client.zrange('rank', '0', '-1', 'WITHSCORES')).toEqual(['a', '3'])
    expect(await client.hlen(markOf('rank', 'versions'))).toBe(2)
    moment(systemRuntime.now() - 8 * 86_400_000)
    await open.deliver(encode([{ id: 'c', items: [], gone: true }]), never)
    await open.deliver(encode([{ id: 'a', items: [], at: 4 }]), never)
    expect(await client.hkeys(markOf('rank', 'versions'))).toEqual(['a', 'b'])
    await open.close()
  })

  it('appends each row of a task once, in order, beside those of other tasks', async () => {
    const { open, encode } = await opened({ as: 'stream', key: () => 'log', value: ({ id }) => ({ id }) })
    const ids = async () => (await client.xrange('log', '-', '+')).map(([, fields]) => fields[1])
    const rows = Array.from({ length: 1_300 }, (_, n) => cart(n))
    const batch = encode(rows)
    await open.deliver(batch, never)
    await open.deliver(batch, never)
    await open.deliver(encode([{ id: 'other', items: [] }], 'suite/main/1'), never)
    await open.deliver(batch, never)
    expect(await ids()).toEqual([...rows.map(({ id }) => id), 'other'])
    await open.close()
  })

  it('cuts a stream to its length, and lets it go when its last row has had its time', async () => {
    const { open, deliver, moment } = await opened({ as: 'stream', key: () => 'short', maxLength: 100, ttl: '10m' })
    await deliver(Array.from({ length: 1_000 }, (_, n) => cart(n)))
    expect(await client.xlen('short')).toBeLessThan(300)
    const left = await client.pttl('short')
    expect(left).toBeGreaterThan(590_000)
    moment(systemRuntime.now() - 300_000)
    await deliver([cart(1)])
    expect(await client.pttl('short')).toBeGreaterThan(580_000)
    await open.close()
  })

  it('publishes each message once, and none that is no longer wanted', async () => {
    const { open, encode, moment } = await opened({
      as: 'publish',
      key: () => 'news',
      ttl: '10m',
      value: ({ id }) => id,
    })
    const subscriber = server.client()
    const heard: string[] = []
    await subscriber.subscribe('news')
    subscriber.on('message', (_, text) => heard.push(text))
    const batch = encode([cart(1), cart(2)])
    await open.deliver(batch, never)
    await open.deliver(batch, never)
    moment(systemRuntime.now() - 3_600_000)
    await open.deliver(encode([cart(3)]), never)
    moment(systemRuntime.now())
    await open.deliver(encode([cart(4)]), never)
    while (heard.length < 3) await systemRuntime.sleep(5)
    expect(heard).toEqual(['"cart-1"', '"cart-2"', '"cart-4"'])
    await open.close()
  })

  it('sets a row aside whose key another program keeps something else in, and applies the others', async () => {
    await client.rpush('theirs', 'x')
    for (const options of [{}, { as: 'hash' }, { deleted: () => true }] as const) {
      const { open, deliver } = await opened(options)
      expect(await deliver([cart(1), { id: 'theirs', items: [] }, cart(2)])).toEqual({
        kind: 'applied',
        rejected: [{ row: 1, reason: 'its key holds a list of another program' }],
      })
      await open.close()
      await client.flushdb()
      await client.rpush('theirs', 'x')
    }
    const { open, deliver } = await opened({ as: 'stream' })
    expect(await deliver([{ id: 'theirs', items: [] }, cart(3)])).toMatchObject({ rejected: [{ row: 0 }] })
    expect([await client.lrange('theirs', 0, -1), await client.xlen('cart-3')]).toEqual([['x'], 1])
    await open.close()
  })

  describe('when something fails', () => {
    let proxy: FaultProxy
    beforeAll(async () => {
      proxy = await faultProxy({ port: server.port })
    })
    afterAll(() => proxy.close())

    test('a lost reply is unknown, and the same batch again is applied once', async () => {
      const { open, encode } = await opened({ as: 'stream', key: () => 'lost' }, `redis://127.0.0.1:${proxy.port}`)
      await open.deliver(encode([cart(1)]), never)
      proxy.next({ kind: 'loseReply' })
      const batch = encode([cart(2), cart(3)])
      expect((await open.deliver(batch, never)).kind).toBe('unknown')
      expect(await open.deliver(batch, never)).toEqual({ kind: 'applied' })
      expect(await client.xlen('lost')).toBe(3)
      await open.close()
    })

    test('a server that is full refuses for now, and takes the batch when there is room', async () => {
      const { open, encode } = await opened()
      await client.flushdb()
      const batch = encode(Array.from({ length: 2_000 }, (_, n) => cart(n)))
      await client.config('SET', 'maxmemory', '1')
      try {
        expect(await open.deliver(batch, never)).toMatchObject({
          kind: 'rejected',
          retry: 'later',
          reason: expect.stringContaining('OOM'),
        })
      } finally {
        await client.config('SET', 'maxmemory', '0')
      }
      expect(await open.deliver(batch, never)).toEqual({ kind: 'applied' })
      await open.close()
    })

    test('a replica refuses for now', async () => {
      const { open, encode } = await opened()
      await client.flushdb()
      await client.replicaof('127.0.0.1', '1')
      try {
        expect(await open.deliver(encode([cart(1)]), never)).toMatchObject({ kind: 'rejected', retry: 'later' })
      } finally {
        await client.replicaof('NO', 'ONE')
      }
      expect(await open.deliver(encode([cart(1)]), never)).toEqual({ kind: 'applied' })
      await open.close()
    })

    test('a delivery that is given up is unknown, and harmless when it arrives after all', async () => {
      const { open, encode } = await opened({ as: 'stream', key: () => 'slow' }, `redis://127.0.0.1:${proxy.port}`)
      await open.deliver(encode([cart(0)]), never)
      proxy.weather({ silent: true })
      const controller = new AbortController()
      const batch = encode([cart(1)])
      const given = open.deliver(batch, controller.signal)
      await systemRuntime.sleep(20)
      controller.abort()
      expect((await given).kind).toBe('unknown')
      proxy.calm()
      expect(await open.deliver(batch, never)).toEqual({ kind: 'applied' })
      await open.deliver(batch, never)
      expect(await client.xlen('slow')).toBe(2)
      await open.close()
    })
  })

  it('speaks TLS as a user of the access list, who needs no more than its own keys and their versions', async () => {
    const own = await startRedis({
      tls: true,
      acl: [
        'user app on >p%40ss:word ~cart-* ~millrace:version:* resetchannels -@all +evalsha +eval +set +get +type +exists',
      ],
      config: { appendonly: 'no' },
    })
    try {
      const env = { REDIS_CA: own.certificate!.certificateFile, REDIS_USER: 'app', REDIS_PASSWORD: 'p%40ss:word' }
      const open = await redis<Cart>({ key: (row) => row.id, ttl: 'forever' }).open(
        connectorContext('nowhere', { env: { ...env, REDIS_URL: own.url } }),
      )
      expect(await open.deliver(staged(open, [cart(1)]), never)).toEqual({ kind: 'applied' })
      expect(JSON.parse((await own.client().get('cart-1'))!)).toEqual(cart(1))
      const wrong = await redis<Cart>({ key: () => 'other', ttl: '1h' }).open(
        connectorContext('nowhere', { env: { ...env, REDIS_URL: own.url } }),
      )
      const refused = await wrong.deliver(staged(wrong, [cart(1)]), never)
      expect(refused).toMatchObject({ kind: 'rejected', retry: 'later', reason: expect.stringContaining('NOPERM') })
      await Promise.all([open.close(), wrong.close()])
    } finally {
      await own.remove()
    }
  })

  describe('in a cluster', () => {
    let cluster: RedisCluster
    beforeAll(async () => {
      cluster = await startRedisCluster()
    })
    afterAll(() => cluster.remove())

    test('rows go to the nodes of their keys, in every form', async () => {
      for (const options of Object.values(forms)) {
        const { open, deliver } = await opened(
          { ...options, key: (row) => (options.as === 'stream' ? `all:{${row.id.at(-1)}}` : row.id) },
          cluster.url,
        )
        expect(await deliver(Array.from({ length: 200 }, (_, n) => cart(n)))).toEqual({ kind: 'applied' })
        await open.close()
        const sizes = await Promise.all(cluster.nodes.map((node) => node.client().dbsize()))
        expect(Math.min(...sizes)).toBeGreaterThan(0)
        await Promise.all(cluster.nodes.map((node) => node.client().flushall()))
      }
    })
  })
})

function encoded(open: OpenSink<Cart>, rows: readonly Cart[], meta: RowMeta, task = 'suite/main/0') {
  const encoder = open.encoder(task)
  const body = Buffer.from(rows.map((row) => encoder.row(row, meta)).join(''))
  return { ...staged(open, []), task, head: encoder.head, body, rows: rows.length }
}

function pairs(flat: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {}
  for (let at = 0; at < flat.length; at += 2) fields[flat[at]!] = flat[at + 1]!
  return fields
}
