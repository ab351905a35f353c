import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Logger, silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { CommitResult, OpenedTask, Store } from '../../core/store.ts'
import { type RedisStoreOptions, redisStore } from '../../state/redis.ts'
import { inspectRedis } from '../../state/redis-inspect.ts'
import { need } from '../support/servers/need.ts'
import { type FaultProxy, faultProxy } from '../support/servers/proxy.ts'
import { startRedisCluster } from '../support/servers/redis-cluster.ts'
import { startSentinel } from '../support/servers/redis-sentinel.ts'
import { type RedisServer, startRedis } from '../support/servers/redis-server.ts'
import { batch, blob, bytesOf, committed, textOf } from '../support/store-suite.ts'

const TASK = 'carts/main/0'
const KEYS = `millrace:{${TASK}}`

need('redis')('the state in a Redis that fails', () => {
  let server: RedisServer
  let client: Redis
  let proxy: FaultProxy
  let stores: Store[] = []

  beforeEach(async () => {
    server = await startRedis()
    client = server.client()
    proxy = await faultProxy({ port: server.port })
  })
  afterEach(async () => {
    await Promise.all(stores.map((store) => store.close()))
    stores = []
    await proxy.close()
    await server.remove()
  })

  async function open(options: Partial<RedisStoreOptions> = {}): Promise<Store> {
    const url = `redis://127.0.0.1:${proxy.port}`
    const store = await redisStore({ url, runtime: systemRuntime, timeout: '1s', patience: '10s', ...options })
    stores.push(store)
    return store
  }

  const epoch = (n: number) => ({
    epoch: n,
    facts: String(n),
    blobs: [blob(`${n}`)],
    staged: [batch(`b${n}`)],
    deadLetters: [letter(n)],
  })
  const letter = (n: number) => ({
    source: 'events',
    partition: 0,
    position: n,
    at: 0,
    where: 'decode',
    code: 'UNDECODABLE',
    reason: 'r',
    bytes: bytesOf(String(n)),
  })
  const said = ({ epoch: at, facts, blobs, batches }: OpenedTask) => [
    at,
    facts,
    blobs.map(({ bytes }) => textOf(bytes)).join(),
    batches.map(({ name }) => name).join(),
  ]
  const upTo = (n: number) => {
    const all = Array.from({ length: n }, (_, i) => String(i + 1))
    return [n, String(n), all.join(), all.map((one) => `b${one}`).join()]
  }
  const kept = async () => {
    const view = await inspectRedis({ url: server.url })
    try {
      await view.verify()
      return (await view.deadLetters.list({ limit: 1_000 })).map(({ id, position }) => [id, position])
    } finally {
      await view.close()
    }
  }

  it('asks again when the reply to a commit was lost, and the commit is there once', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    for (let n = 1; n <= 10; n++) {
      proxy.next({ kind: 'loseReply' }, { when: isScript })
      committed(await store.commit({ task: TASK, fence, ...epoch(n) }))
    }
    expect(proxy.counts.faults.loseReply).toBe(10)
    expect(said(await store.open(TASK))).toEqual(upTo(10))
    expect((await kept()).map(([, position]) => position)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  it('asks again when a commit was cut on its way, and applies no half of one', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    const body = new Uint8Array(600_000).fill(7)
    for (let n = 1; n <= 8; n++) {
      proxy.next({ kind: 'cutRequest', after: n * 80_000 }, { when: isScript })
      committed(await store.commit({ task: TASK, fence, ...epoch(n), staged: [batch(`b${n}`, { body })] }))
    }
    expect(proxy.counts.injected).toBe(8)
    expect(said(await store.open(TASK))).toEqual(upTo(8))
    await kept()
  })

  it('raises the fence once when the reply to an opening was lost', async () => {
    const store = await open()
    // A server that does not know the script yet answers that first.
    await store.open('other/main/0')
    proxy.next({ kind: 'loseReply' }, { when: isScript })
    const { fence, deaths } = await store.open(TASK)
    expect([fence, deaths]).toEqual([1, 0])
  })

  it('says that it does not know when nothing is answered for too long; what arrives late is shut out by the next opening', async () => {
    const store = await open({ timeout: '200ms', patience: '300ms' })
    const { fence } = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    server.pause()
    const asked = store.commit({ task: TASK, fence, ...epoch(2), deadLetters: [] })
    const behind = store.commit({ task: TASK, fence, facts: 'upon it' })
    expect(await asked).toMatchObject({ kind: 'unknown', reason: expect.stringContaining('timed out') })
    expect(await behind).toMatchObject({ kind: 'unknown' })
    expect((await store.commit({ task: TASK, fence, ...epoch(3) })).kind).toBe('unknown')
    server.resume()
    const opened = await store.open(TASK)
    // They were asked for in one turn, and went together.
    const both = [2, 'upon it', '1,2', 'b1,b2']
    expect([upTo(1), both]).toContainEqual(said(opened))
    const again = await open()
    expect(said(await again.open(TASK))).toEqual(said(opened))
  })

  it('goes on when a server that stood still comes back in time', async () => {
    const store = await open({ timeout: '200ms' })
    const { fence } = await store.open(TASK)
    server.pause()
    const asked = store.commit({ task: TASK, fence, ...epoch(1) })
    await systemRuntime.sleep(500)
    server.resume()
    committed(await asked)
    expect(said(await store.open(TASK))).toEqual(upTo(1))
  })

  it('goes on after the server was killed and started again, with all that it answered for', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    for (let n = 1; n <= 3; n++) {
      const asked = store.commit({ task: TASK, fence, ...epoch(n) })
      if (n === 2) await asked
      await server.kill()
      await server.start()
      committed(await asked)
    }
    expect(said(await store.open(TASK))).toEqual(upTo(3))
    await kept()
  })

  it('is sure that nothing was applied when the server was never reached', async () => {
    const store = await open({ patience: '200ms' })
    const { fence } = await store.open(TASK)
    await proxy.refuse()
    const result = await store.commit({ task: TASK, fence, ...epoch(1) })
    expect(result).toMatchObject({ kind: 'failed', error: { code: 'STATE_FAILED', retriable: true } })
    await proxy.accept()
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    expect(said(await store.open(TASK))).toEqual(upTo(1))
  })

  it('refuses what a full server has no room for, and still takes what frees some', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    await client.config('SET', 'maxmemory', '1')
    const results = await Promise.all([
      store.commit({ task: TASK, fence, ...epoch(2), deadLetters: [] }),
      store.commit({ task: TASK, fence, lanes: [{ sink: 'emails', remove: ['b1'] }] }),
    ])
    expect(results[0]).toMatchObject({ kind: 'failed', error: { code: 'DISK_FULL', retriable: true } })
    expect(results[1]).toMatchObject({ kind: 'committed' })
    await client.config('SET', 'maxmemory', '0')
    committed(await store.commit({ task: TASK, fence, ...epoch(2) }))
    expect(said(await store.open(TASK))).toEqual([2, '2', '1,2', 'b2'])
  })

  it('waits for the end of a failover while the server is a replica', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    await client.replicaof('127.0.0.1', '1')
    const asked = store.commit({ task: TASK, fence, ...epoch(1) })
    await systemRuntime.sleep(200)
    await client.replicaof('NO', 'ONE')
    committed(await asked)
  })

  it('runs its scripts after the server forgot them', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    await client.script('FLUSH')
    committed(await store.commit({ task: TASK, fence, ...epoch(2) }))
  })

  it('lets one of two workers go on, whoever opened last', async () => {
    const [one, two] = [await open(), await open()]
    let mine = await one.open(TASK)
    for (let n = 1; n <= 6; n += 2) {
      const theirs = await two.open(TASK)
      expect((await one.commit({ task: TASK, fence: mine.fence, ...epoch(n) })).kind).toBe('fenced')
      committed(await two.commit({ task: TASK, fence: theirs.fence, ...epoch(n) }))
      mine = await one.open(TASK)
      expect((await two.commit({ task: TASK, fence: theirs.fence, facts: 'late' })).kind).toBe('fenced')
      committed(await one.commit({ task: TASK, fence: mine.fence, ...epoch(n + 1) }))
    }
    expect(said(await one.open(TASK))).toEqual(upTo(6))
    const [a, b] = [await open(), await open()]
    expect([a.id, a.secret]).toEqual([b.id, b.secret])
  })

  it('says that it has gone back when Redis lost what was committed', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    const copies = await Promise.all(
      ['task', 'blobs', 'batches', 'letters', 'pieces'].map(
        async (part) => [`${KEYS}:${part}`, (await client.dumpBuffer(`${KEYS}:${part}`))!] as const,
      ),
    )
    committed(await store.commit({ task: TASK, fence, ...epoch(2) }))
    for (const [key, copy] of copies) await client.restore(key, 0, copy, 'REPLACE')
    expect(await store.commit({ task: TASK, fence, ...epoch(3) })).toMatchObject({
      kind: 'unknown',
      reason: expect.stringContaining('no longer has commit'),
    })
    await expect(store.open(TASK)).rejects.toMatchObject({ code: 'STATE_BEHIND' })
    expect(said(await (await open()).open(TASK))).toEqual(upTo(1))
  })

  it('gives dead letters numbers of their own after their counter was lost', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    await client.del('millrace:letters')
    committed(await store.commit({ task: TASK, fence, ...epoch(2) }))
    expect(await kept()).toEqual([
      [1, 1],
      [2, 2],
    ])
  })

  for (const [what, damage] of Object.entries({
    'a changed row': () => client.hset(`${KEYS}:blobs`, '1', '1 {"slot":"x"}'),
    'a row that is gone': () => client.hdel(`${KEYS}:blobs`, '1'),
    'rows of batches that are gone': () => client.del(`${KEYS}:batches`),
    'changed bytes': async () => {
      for (const field of await client.hkeys(`${KEYS}:pieces`)) await client.hset(`${KEYS}:pieces`, field, '?')
    },
    'other facts': () => client.hset(`${KEYS}:task`, 'facts', '{}'),
  })) {
    it(`notices ${what}`, async () => {
      const store = await open()
      const { fence } = await store.open(TASK)
      committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
      await damage()
      await expect(store.open(TASK)).rejects.toMatchObject({ code: 'STATE_DAMAGED' })
    })
  }

  it('removes what a life has stored ahead and never referred to', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
    const before = await client.hkeys(`${KEYS}:pieces`)
    await client.hset(`${KEYS}:pieces`, '900', 'left over')
    await store.open(TASK)
    expect(await client.hkeys(`${KEYS}:pieces`)).toEqual(before)
  })

  it('refuses a Redis that throws keys away or keeps nothing, and warns of one without an append-only file', async () => {
    await client.config('SET', 'maxmemory', '100mb')
    await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
    await expect(open()).rejects.toMatchObject({ code: 'STATE_FAILED', message: expect.stringContaining('noeviction') })
    await client.config('SET', 'maxmemory-policy', 'volatile-lru')
    await (await open()).close()
    await client.config('SET', 'appendonly', 'no')
    await expect(open()).rejects.toMatchObject({ message: expect.stringContaining('set appendonly yes') })
    const warned: string[] = []
    const logger: Logger = { ...silentLogger, warn: (_, text) => void warned.push(text) }
    await open({ volatile: true, logger })
    await client.config('SET', 'save', '3600 1')
    await open({ logger })
    expect(warned).toEqual([
      expect.stringContaining('no append-only file'),
      expect.stringContaining('only snapshots (save 3600 1)'),
    ])
  })

  it('counts a commit when as many replicas have it as was asked for', async () => {
    await expect(open({ fsync: true })).rejects.toMatchObject({ code: 'BAD_OPTION' })
    const replica = await startRedis({ config: { replicaof: `127.0.0.1 ${server.port}` } })
    try {
      const store = await open({ replicas: 1, patience: '60s' })
      const { fence } = await store.open(TASK)
      committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
      expect(await replica.client().hget(`${KEYS}:task`, 'facts')).toBe('1')
      replica.pause()
      let settled = false
      const asked = store.commit({ task: TASK, fence, ...epoch(2) }).finally(() => {
        settled = true
      })
      await systemRuntime.sleep(1_500)
      expect(settled).toBe(false)
      replica.resume()
      committed(await asked)
      expect(await replica.client().hget(`${KEYS}:task`, 'facts')).toBe('2')
    } finally {
      await replica.remove()
    }
  })

  it('takes more rows in one commit than Lua can hand to one command', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    const names = Array.from({ length: 10_000 }, (_, n) => `b${n}`)
    committed(await store.commit({ task: TASK, fence, epoch: 1, staged: names.map((name) => batch(name)) }))
    expect((await store.open(TASK)).batches.map(({ name }) => name)).toEqual(names)
    const opened = await store.open(TASK)
    committed(await store.commit({ task: TASK, fence: opened.fence, lanes: [{ sink: 'emails', remove: names }] }))
    expect((await store.open(TASK)).batches).toEqual([])
    expect(await client.exists(`${KEYS}:pieces`, `${KEYS}:batches`)).toBe(0)
  })

  it('works over TLS for a user of the access list who may do no more than it needs', async () => {
    const own = await startRedis({
      tls: true,
      acl: ['user state on >word ~millrace:* resetchannels -@all +@read +@write +@scripting +info +config|get'],
    })
    try {
      const env = { REDIS_CA: own.certificate!.certificateFile, REDIS_USER: 'state', REDIS_PASSWORD: 'word' }
      const store = await open({ url: own.url, env })
      const { fence } = await store.open(TASK)
      committed(await store.commit({ task: TASK, fence, ...epoch(1) }))
      expect(said(await store.open(TASK))).toEqual(upTo(1))
      await store.close()
      const wrong = open({ url: own.url, env: { ...env, REDIS_PASSWORD: 'other' }, patience: '1h' })
      await expect(wrong).rejects.toMatchObject({
        code: 'STATE_FAILED',
        message: expect.stringContaining('user or password are wrong'),
      })
    } finally {
      await own.remove()
    }
  })

  it('goes on with the replica that Sentinels chose when the primary died, with all that was answered for', async () => {
    const replica = await startRedis({ config: { replicaof: `127.0.0.1 ${server.port}` } })
    const sentinel = await startSentinel('main', server.port)
    try {
      const store = await open({
        url: `redis+sentinel://127.0.0.1:${sentinel.port}/main`,
        replicas: 1,
        patience: '60s',
      })
      const { fence } = await store.open(TASK)
      for (let n = 1; n <= 3; n++) committed(await store.commit({ task: TASK, fence, ...epoch(n) }))
      await server.kill()
      // The only replica is the primary then, and nobody follows it.
      const asked = store.commit({ task: TASK, fence, ...epoch(4) })
      const late = await startRedis({ config: { replicaof: `127.0.0.1 ${replica.port}` } })
      try {
        committed(await asked)
        expect(said(await store.open(TASK))).toEqual(upTo(4))
        expect(await replica.client().hget(`${KEYS}:task`, 'facts')).toBe('4')
      } finally {
        await Promise.all(stores.splice(0).map((one) => one.close()))
        await late.remove()
      }
    } finally {
      await sentinel.remove()
      await replica.remove()
      await server.start()
    }
  })

  it('keeps each task on one node of a cluster, and every task', async () => {
    const cluster = await startRedisCluster()
    try {
      const store = await open({ url: cluster.url })
      const names = Array.from({ length: 12 }, (_, n) => `carts/main/${n}`)
      for (const task of names) {
        const { fence } = await store.open(task)
        committed(await store.commit({ task, fence, ...epoch(1) }))
      }
      expect(await store.tasks()).toEqual([...names].sort())
      for (const task of names) expect(said(await store.open(task))).toEqual(upTo(1))
      const view = await inspectRedis({ url: cluster.url })
      expect(await view.deadLetters.count()).toBe(12)
      expect(await view.verify()).toBeGreaterThan(0)
      await view.close()
      const sizes = await Promise.all(cluster.nodes.map((node) => node.client().dbsize()))
      expect(Math.min(...sizes)).toBeGreaterThan(0)
    } finally {
      await Promise.all(stores.splice(0).map((store) => store.close()))
      await cluster.remove()
    }
  })

  it('loses and doubles nothing of several tasks while connections are cut and replies are lost at random', {
    timeout: 120_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        await client.flushall()
        const store = await open({ timeout: '500ms', patience: '30s' })
        const tasks = ['a/0', 'a/1', 'a/2']
        const opened = await Promise.all(tasks.map((task) => store.open(task)))
        proxy.random({ seed, rate: 0.3, delay: 20 })
        const results = await Promise.all(
          tasks.map(async (task, at) => {
            const all: CommitResult[] = []
            for (let n = 1; n <= 20; n++) all.push(await store.commit({ task, fence: opened[at]!.fence, ...epoch(n) }))
            return all
          }),
        )
        proxy.random(undefined)
        for (const result of results.flat()) committed(result)
        for (const task of tasks) expect(said(await store.open(task))).toEqual(upTo(20))
        expect(await kept()).toHaveLength(60)
        await store.close()
      }),
      { numRuns: 5 },
    )
    expect(proxy.counts.injected).toBeGreaterThan(20)
  })
})

/** A request that runs a script. */
function isScript(first: Buffer): boolean {
  return /\$(?:7|4)\r\neval/i.test(first.toString('latin1'))
}
