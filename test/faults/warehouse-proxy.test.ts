import { setTimeout as sleep } from 'node:timers/promises'
import type { ClickHouseClient } from '@clickhouse/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { type Runtime, systemRuntime } from '../../core/runtime.ts'
import type { Sink } from '../../core/sink.ts'
import type { RawRecord, Source } from '../../core/source.ts'
import { stream } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { clickhouse } from '../../sinks/clickhouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { memoryStore } from '../../state/memory.ts'
import { anything, type NumberRecord, numberSource } from '../support/number-source.ts'
import { type ClickHouseServer, startClickHouse } from '../support/servers/clickhouse-server.ts'
import { type FaultKind, type FaultProxy, faultProxy } from '../support/servers/proxy.ts'

const PARTITIONS = 8
const RECORDS = Number(process.env.WAREHOUSE_ROWS ?? 50_000) / PARTITIONS
const ROWS = PARTITIONS * RECORDS
const SEED = Number(process.env.WAREHOUSE_SEED ?? Math.floor(Math.random() * 1e9))
const KILLS = 4
const EVERY: readonly FaultKind[] = [
  'cutRequest',
  'loseReply',
  'cutRequest',
  'cutAnswer',
  'loseReply',
  'muteReply',
  'blackHole',
  'delay',
  'throttle',
]

/** So many of the engine's seconds pass in one: its waits between attempts are long for a test. */
const HURRY = 10
const began = Date.now()
const hurried: Runtime = {
  ...systemRuntime,
  now: () => began + (Date.now() - began) * HURRY,
  elapsed: () => performance.now() * HURRY,
  sleep: (ms, signal) => systemRuntime.sleep(ms / HURRY, signal),
}

let server: ClickHouseServer
let client: ClickHouseClient
let proxy: FaultProxy

beforeAll(async () => {
  server = await startClickHouse()
  const { url, user: username, password } = server
  client = connectClickHouse({ url, database: 'default', username, password })
  proxy = await faultProxy(server)
})
afterAll(async () => {
  await client.close()
  await proxy.close()
  await server.close()
})

/** Numbers that are other ones in each partition. */
function source(): Source {
  const numbers = numberSource(RECORDS, { partitions: PARTITIONS })
  return {
    ...numbers,
    async open(context, options) {
      const open = await numbers.open(context, options)
      return {
        ...open,
        async reader(partition, from) {
          const reader = await open.reader(partition, from)
          const shifted = (raw: RawRecord): RawRecord => {
            const value = raw.value as NumberRecord
            return {
              position: raw.position,
              next: raw.next,
              value: { ...value, n: value.n + partition * RECORDS },
              bytes: () => raw.bytes(),
            }
          }
          return { ...reader, read: async (limit) => (await reader.read(limit))?.map(shifted) ?? null }
        },
      }
    },
  }
}

/** Each batch is a request of its own, so that there are many. */
function ungrouped<T>(sink: Sink<T>): Sink<T> {
  return {
    ...sink,
    async open(context) {
      const { group: _, ...open } = await sink.open(context)
      return open
    },
  }
}

test(`through a network of faults and kills of the engine each row is there once (WAREHOUSE_SEED=${SEED})`, async () => {
  const { user, password } = server
  const numbers = stream(source(), { schema: anything, key: (e) => e.key, time: (e) => e.at, lateness: '1s' })
  const sink = ungrouped(
    clickhouse<NumberRecord>({
      table: 'numbers',
      columns: { n: 'Int64', key: 'String', at: 'DateTime64(3)' },
      orderBy: ['n'],
      timeout: '3s',
    }),
  )
  const outcomes = new Map<string, number>()
  const logger = {
    ...silentLogger,
    warn: (fields: object) => {
      const { outcome } = fields as { outcome?: string }
      if (outcome) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    },
  }
  const worker = await startWorker({
    pipeline: pipeline('faults', { numbers: numbers.to(sink) }),
    store: memoryStore(),
    dataDir: '/nowhere',
    env: { CLICKHOUSE_URL: `http://127.0.0.1:${proxy.port}`, CLICKHOUSE_USER: user, CLICKHOUSE_PASSWORD: password },
    runtime: hurried,
    logger,
    metrics: createMetrics(),
    untilEnd: true,
    epoch: { records: 200, bytes: 1_000_000 },
  })
  proxy.random({ seed: SEED, rate: 0.5, kinds: EVERY, within: 8_192, delay: 500, bytesPerSecond: 10_000 })
  let ended = false
  const done = worker.done.finally(() => {
    ended = true
  })
  const share = (n: number) => worker.status().sinks.numbers!.rows > (ROWS * n) / (KILLS + 1)
  for (let kill = 1; kill <= KILLS && !ended; kill++) {
    while (!share(kill) && !ended) await sleep(5)
    await server.kill()
    proxy.cut()
    await server.start()
  }
  expect(await done).toMatchObject({ read: ROWS, deadLetters: 0 })
  proxy.calm()

  const query = 'SELECT toUInt32(count()) AS rows, toUInt32(uniqExact(n)) AS numbers FROM numbers'
  const [counted] = await (await client.query({ query, format: 'JSONEachRow' })).json()
  expect(counted).toEqual({ rows: ROWS, numbers: ROWS })
  const { faults, injected } = proxy.counts
  process.stdout.write(
    `warehouse faults: ${JSON.stringify({ seed: SEED, injected, faults, kills: KILLS, outcomes: Object.fromEntries(outcomes) })}\n`,
  )
  expect(injected).toBeGreaterThan(ROWS / 250)
  for (const kind of EVERY) expect(faults[kind]).toBeGreaterThan(0)
}, 240_000)
