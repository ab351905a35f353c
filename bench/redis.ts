/**
 * The store in Redis beside the one in SQLite: commits of one task and of eight at once, how many bytes a commit moves, how long
 * a task's state takes to load; and rows a second of the sink in each form. A redis-server of its own is started.
 *
 *     npx node --conditions=source bench/redis.ts [--json]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Redis } from 'ioredis'
import { silentLogger } from '../core/logger.ts'
import { createMetrics } from '../core/metrics.ts'
import { systemRuntime } from '../core/runtime.ts'
import { sharing } from '../core/share.ts'
import type { Delivery, RowMeta } from '../core/sink.ts'
import type { ConnectorContext } from '../core/source.ts'
import type { Store } from '../core/store.ts'
import { type RedisOptions, redis } from '../sinks/redis.ts'
import { redisStore } from '../state/redis.ts'
import { sqliteStore } from '../state/sqlite.ts'
import { startRedis } from '../test/support/servers/redis-server.ts'

const { values: args } = parseArgs({ options: { json: { type: 'boolean', default: false } } })
const COMMITS = 1_000
/** An epoch of a thousand records: what it changed, and what it stages. */
const BLOB = new Uint8Array(24_000).fill(1)
const BODY = new Uint8Array(100_000).fill(2)
const STATE_MB = 256
const ROWS = 10_000
const BATCHES = 10

const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
const figures: Record<string, Record<string, number>> = {}

/** Epochs, each with a blob and a batch, and the batch's removal with the next, as a task makes them. */
async function commits(store: Store, tasks: number): Promise<{ rate: number; cpu: number }> {
  const names = Array.from({ length: tasks }, (_, n) => `bench-${tasks}/main/${n}`)
  const opened = await Promise.all(names.map((name) => store.open(name)))
  const spent = process.cpuUsage()
  const began = performance.now()
  await Promise.all(
    names.map(async (task, at) => {
      const { fence } = opened[at]!
      let blobs: readonly number[] = []
      for (let epoch = 1; epoch <= COMMITS / tasks; epoch++) {
        const staged = {
          name: `b${epoch}`,
          sink: 's',
          head: '',
          rows: 1,
          body: BODY,
          stagedAt: 0,
          oldest: 0,
          newest: 0,
          arrived: 0,
        }
        const result = await store.commit({
          task,
          fence,
          epoch,
          facts: `{"position":${epoch}}`,
          blobs: [{ slot: 'a/b', format: 'x/1', bytes: BLOB }],
          staged: [staged],
          ...(blobs.length > 20 ? { compactions: [{ slot: 'a/b', format: 'x/1', replaces: blobs, bytes: BLOB }] } : {}),
          ...(epoch > 1 ? { lanes: [{ sink: 's', remove: [`b${epoch - 1}`] }] } : {}),
        })
        if (result.kind !== 'committed') throw new Error(`not committed: ${JSON.stringify(result)}`)
        blobs = blobs.length > 20 ? [result.compacted[0]!, ...result.blobs] : [...blobs, ...result.blobs]
      }
    }),
  )
  const rate = (COMMITS / (performance.now() - began)) * 1_000
  const { user, system } = process.cpuUsage(spent)
  return { rate, cpu: (user + system) / 1_000 / COMMITS }
}

/** MB/s of loading a task's state. */
async function loading(store: Store): Promise<number> {
  const { fence } = await store.open('bench-load')
  for (let epoch = 1; epoch <= STATE_MB / 8; epoch++) {
    const bytes = new Uint8Array(8 * 1_048_576).fill(epoch)
    await store.commit({ task: 'bench-load', fence, epoch, blobs: [{ slot: 'a/b', format: 'x/1', bytes }] })
  }
  const began = performance.now()
  await store.open('bench-load')
  return (STATE_MB / (performance.now() - began)) * 1_000
}

async function stored(name: string, store: Store, client?: Redis): Promise<void> {
  const one = await commits(store, 1)
  const before = client && { bytes: await received(client), cpu: await spentBy(client) }
  const eight = await commits(store, 8)
  const server: Record<string, number> =
    client && before
      ? {
          'CPU ms a commit, of Redis': ((await spentBy(client)) - before.cpu) * (1_000 / COMMITS),
          'bytes a commit': ((await received(client)) - before.bytes) / COMMITS,
        }
      : {}
  figures[name] = {
    'commits/s, 1 task': one.rate,
    'commits/s, 8 tasks': eight.rate,
    'CPU ms a commit': eight.cpu,
    ...server,
    'load MB/s': await loading(store),
  }
  await store.close()
}

/** CPU seconds of the server so far. */
async function spentBy(client: Redis): Promise<number> {
  const info = await client.info('cpu')
  return Number(/used_cpu_user:([\d.]+)/.exec(info)![1]) + Number(/used_cpu_sys:([\d.]+)/.exec(info)![1])
}

const received = async (client: Redis) => Number(/total_net_input_bytes:(\d+)/.exec(await client.info('stats'))![1])

interface Row {
  readonly id: string
  readonly n: number
}

async function rows(url: string, as: NonNullable<RedisOptions<Row>['as']>): Promise<{ rate: number; cpu: number }> {
  const ranked = as === 'sorted-set' ? { member: (row: Row) => row.id, score: (row: Row) => row.n } : {}
  const whole = as === 'sorted-set' || as === 'stream' || as === 'publish'
  const sink = redis<Row>({
    key: (row) => (whole ? `all-${as}` : `${as}:${row.id}`),
    ttl: '1h',
    as,
    url,
    ...(as === 'string' ? { value: (row: Row) => row.id } : {}),
    ...ranked,
  })
  const context: ConnectorContext = {
    pipeline: 'bench',
    dataDir: folder,
    env: {},
    live: false,
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    share: sharing(),
    stage: 'main',
  }
  const open = await sink.open(context)
  const encoder = open.encoder('bench/main/0')
  let version = 0
  const meta: RowMeta = { key: '', time: 0, cause: '', now: () => systemRuntime.now(), version: () => ++version }
  const batches = Array.from({ length: BATCHES }, (_, batch): Delivery => {
    const texts = Array.from({ length: ROWS }, (_, n) =>
      encoder.row({ id: `v${(batch * 7_919 + n) % 50_000}`, n }, meta),
    )
    const body = Buffer.from(texts.join(''))
    const name = `l/bench/main/0/${batch}/s/0`
    return {
      name,
      task: 'bench/main/0',
      head: encoder.head,
      body,
      rows: ROWS,
      stagedAt: 0,
      attempt: 1,
      afterUnknown: false,
    }
  })
  const spent = process.cpuUsage()
  const began = performance.now()
  for (const batch of batches) {
    const outcome = await open.deliver(batch, new AbortController().signal)
    if (outcome.kind !== 'applied') throw new Error(JSON.stringify(outcome))
  }
  const rate = ((ROWS * BATCHES) / (performance.now() - began)) * 1_000
  const { user, system } = process.cpuUsage(spent)
  await open.close()
  return { rate, cpu: (user + system) / (ROWS * BATCHES) }
}

for (const appendfsync of ['everysec', 'always']) {
  const server = await startRedis({ config: { appendfsync } })
  const client = server.client()
  await stored(
    `Redis, appendfsync ${appendfsync}`,
    await redisStore({ url: server.url, runtime: systemRuntime }),
    client,
  )
  if (appendfsync === 'everysec') {
    const sink: Record<string, number> = {}
    for (const as of ['json', 'string', 'hash', 'sorted-set', 'stream', 'publish'] as const) {
      const before = await spentBy(client)
      const { rate, cpu } = await rows(server.url, as)
      Object.assign(sink, {
        [`${as}, rows/s`]: rate,
        [`${as}, CPU ms per 1,000 rows`]: cpu,
        [`${as}, of Redis`]: ((await spentBy(client)) - before) * (1_000_000 / (ROWS * BATCHES)),
      })
    }
    figures['sink, batches of 10,000'] = sink
  }
  await server.remove()
}
await stored('SQLite', await sqliteStore({ path: join(folder, 'state.db'), runtime: systemRuntime }))
rmSync(folder, { recursive: true })

if (args.json) console.log(JSON.stringify(figures))
else {
  for (const [name, said] of Object.entries(figures)) {
    console.log(name)
    for (const [what, value] of Object.entries(said))
      console.log(`  ${what.padEnd(34)} ${value < 10 ? value.toFixed(2) : Math.round(value).toLocaleString('en')}`)
  }
}
