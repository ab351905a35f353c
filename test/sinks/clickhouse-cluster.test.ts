import { createServer, request, type Server } from 'node:http'
import type { ClickHouseClient } from '@clickhouse/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import type { Delivery, OpenSink } from '../../core/sink.ts'
import type { ConnectorContext } from '../../core/source.ts'
import { clickhouse } from '../../sinks/clickhouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { type ClickHouseServer, startClickHouse } from '../support/servers/clickhouse-server.ts'
import { need } from '../support/servers/need.ts'
import { startZooKeeper, type ZooKeeper } from '../support/servers/zookeeper.ts'
import { connectorContext, staged } from '../support/sink-suite.ts'

interface Visit {
  id: string
  n: number
}

const columns = { id: 'String', n: 'Int64' } as const
const visits = (count: number): Visit[] => Array.from({ length: count }, (_, n) => ({ id: `visit-${n}`, n }))
const never = () => new AbortController().signal
const again = (delivery: Delivery, attempt = 2): Delivery => ({ ...delivery, attempt, afterUnknown: true })
const DAY = 86_400_000

const MARKS =
  "_batch LowCardinality(String) MATERIALIZED getSetting('log_comment'), _seq UInt32 MATERIALIZED rowNumberInBlock()"

/** With a real ZooKeeper, the engine of the tests makes replicated tables; it writes to none, as it serves no replicas. */
need('zookeeper')('with a ZooKeeper', () => {
  let zooKeeper: ZooKeeper
  let server: ClickHouseServer
  beforeAll(async () => {
    zooKeeper = await startZooKeeper()
    server = await startClickHouse({ zooKeeper: zooKeeper.port, replica: 'r7' })
  })
  afterAll(async () => {
    await server?.close()
    await zooKeeper?.close()
  })

  test('a replicated table is made at a path with macros, with its windows in blocks and in seconds', async () => {
    const said: string[] = []
    const path = '/clickhouse/tables/{shard}/{database}/{table}'
    const options = { table: 'shared', columns, orderBy: ['id'], replicated: { path } } as const
    for (const _ of ['made', 'found']) {
      const sink = await clickhouse<Visit>(options).open(contextOf(server, said, server.url))
      expect(sink.guarantee).toBeUndefined()
      await sink.close()
    }
    expect(said).toEqual([])
    const { url, user: username, password } = server
    const client = connectClickHouse({ url, database: 'default', username, password })
    const of = async (query: string) => (await (await client.query({ query, format: 'JSONEachRow' })).json())[0]
    const replica = await of('SELECT zookeeper_path, replica_name FROM system.replicas')
    const table = await of("SELECT engine_full FROM system.tables WHERE name = 'shared'")
    await client.close()
    expect(replica).toEqual({ zookeeper_path: '/clickhouse/tables/one/default/shared', replica_name: 'r7' })
    expect(table).toEqual({
      engine_full: expect.stringMatching(/replicated_deduplication_window = 100000, .*_window_seconds = 604800/),
    })
  })
})

function contextOf({ user, password }: ClickHouseServer, said: string[], url: string): ConnectorContext {
  return connectorContext('unused', {
    env: { CLICKHOUSE_URL: url, CLICKHOUSE_USER: user, CLICKHOUSE_PASSWORD: password },
    logger: { ...silentLogger, warn: (_fields: object, message: string) => void said.push(message) },
  })
}

/**
 * A plain table is behind these, of which the server says that it is replicated: names are forgotten as of a replicated
 * one, parts come and stay as they do there, and replicas there are none.
 */
describe('a table of which the server says that it is replicated', () => {
  let server: ClickHouseServer
  let client: ClickHouseClient
  let front: Front
  const open: OpenSink<Visit>[] = []

  beforeAll(async () => {
    server = await startClickHouse()
    const { url, user: username, password } = server
    client = connectClickHouse({ url, database: 'default', username, password })
    front = await frontOf(server)
  })
  afterAll(async () => {
    for (const each of open) await each.close()
    await client.close()
    await front.close()
    await server.close()
  })

  async function opened(table: string, said: string[] = []): Promise<OpenSink<Visit>> {
    const sink = await clickhouse<Visit>({ table, columns, replicated: true }).open(contextOf(server, said, front.url))
    open.push(sink)
    return sink
  }

  const made = (table: string) =>
    client.command({
      query: `CREATE TABLE ${table} (id String, n Int64, ${MARKS}) ENGINE = MergeTree PARTITION BY n % 4 ORDER BY id
SETTINGS non_replicated_deduplication_window = 4, replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 3600`,
    })

  async function found(table: string): Promise<unknown> {
    const query = `SELECT toUInt32(count()) AS rows, toUInt32(uniqExact(_batch, _seq)) AS places, toUInt32(countIf(_seq != n)) AS wrong FROM ${table}`
    return (await (await client.query({ query, format: 'JSONEachRow' })).json())[0]
  }

  test('says how long it recognizes a batch, and how to make that longer', async () => {
    await made('windows')
    const said: string[] = []
    await opened('windows', said)
    expect(said.join()).toMatch(
      /recognizes a repeated batch for 20 s, .*replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800/,
    )
  })

  test('an old batch of which parts are there is completed, though its name is forgotten', async () => {
    await made('parts')
    const sink = await opened('parts')
    const delivery = staged(sink, visits(100), { name: 'parts/1' })
    expect(await sink.deliver(delivery, never())).toEqual({ kind: 'applied' })
    await client.command({ query: 'ALTER TABLE parts DELETE WHERE n % 4 = 2 SETTINGS mutations_sync = 2' })
    expect(await found('parts')).toMatchObject({ rows: 75 })
    const other = staged(sink, visits(100), { name: 'parts/2' })
    expect(await sink.deliver(other, never())).toEqual({ kind: 'applied' })
    const old = { ...again(delivery), stagedAt: Date.now() - DAY }
    for (const _ of ['first', 'again']) expect(await sink.deliver(old, never())).toEqual({ kind: 'applied' })
    expect(await found('parts')).toEqual({ rows: 200, places: 200, wrong: 0 })
    expect(front.asked.filter((text) => /^SYSTEM SYNC REPLICA `default`.`parts`/.test(text))).toHaveLength(2)
  })

  test('an old batch is not sent while this replica may lack what another one has', async () => {
    await made('behind')
    const sink = await opened('behind')
    const delivery = staged(sink, visits(10), { name: 'behind/1' })
    const old = { ...again(delivery), stagedAt: Date.now() - DAY }
    front.inStep = false
    expect(await sink.deliver(old, never())).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching(/SYSTEM SYNC REPLICA: ACCESS_DENIED \(497\).*a person must decide/),
    })
    front.inStep = true
    expect(await sink.deliver(old, never())).toEqual({ kind: 'applied' })
    expect(await found('behind')).toEqual({ rows: 10, places: 10, wrong: 0 })
  })

  test('a table that is not replicated is refused where that was asked for', async () => {
    await made('plain')
    const sink = clickhouse<Visit>({ table: 'plain', columns, replicated: true }).open(
      contextOf(server, [], server.url),
    )
    await expect(sink).rejects.toThrow(/replicated is asked for, and the table is a MergeTree/)
  })
})

interface Front {
  readonly url: string
  readonly asked: string[]
  /** Whether a replica that is told to catch up does so. */
  inStep: boolean
  close(): Promise<void>
}

/** Stands before the server, and calls its tables replicated. */
async function frontOf({ port }: ClickHouseServer): Promise<Front> {
  const asked: string[] = []
  const server = createServer(async (near, answer) => {
    const parts: Buffer[] = []
    for await (const part of near) parts.push(part)
    const body = Buffer.concat(parts)
    const text = body.toString()
    asked.push(text)
    if (text.startsWith('SYSTEM SYNC REPLICA')) {
      if (front.inStep) return answer.end()
      answer.writeHead(403, { 'X-ClickHouse-Exception-Code': '497' })
      return answer.end('Code: 497. DB::Exception: writer: Not enough privileges. (ACCESS_DENIED)\n')
    }
    const { url: path, method, headers } = near
    const far = request({ port, host: '127.0.0.1', path, method, headers, agent: false }, async (response) => {
      const back: Buffer[] = []
      for await (const part of response) back.push(part)
      const said = Buffer.concat(back).toString().replaceAll('"MergeTree', '"ReplicatedMergeTree')
      const { 'content-length': _, 'transfer-encoding': __, connection: ___, ...kept } = response.headers
      answer.writeHead(response.statusCode!, kept)
      answer.end(said)
    })
    far.end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const front: Front = {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    asked,
    inStep: true,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return front
}

/**
 * The engine of the tests runs no statement on a cluster: what is said to the server is heard here, and answered as a
 * server does whose table is there afterwards.
 */
test('with cluster, the table is made and changed on all of its servers, as a replicated one', async () => {
  const said: string[] = []
  const answers: [RegExp, object[]][] = [
    [
      /FROM system\.tables/,
      [
        {
          engine: 'ReplicatedReplacingMergeTree',
          engine_full: 'ReplicatedReplacingMergeTree SETTINGS replicated_deduplication_window = 1000000',
          create_table_query: '',
          dependencies_database: [],
          dependencies_table: [],
        },
      ],
    ],
    [/FROM system\.columns/, [{ name: 'id', type: 'String', default_kind: '', default_expression: '' }]],
  ]
  let made = false
  const server: Server = createServer(async (request, response) => {
    let text = ''
    for await (const part of request) text += part
    said.push(text)
    if (/^CREATE|^ALTER/.test(text)) made = true
    const rows = made ? (answers.find(([statement]) => statement.test(text))?.[1] ?? []) : []
    if (/^ALTER/.test(text))
      answers[1]![1].push({ name: 'n', type: 'Nullable(Int64)', default_kind: '', default_expression: '' })
    response.end(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const context = connectorContext('unused', { env: { CLICKHOUSE_URL: url } })
  const options = { table: 'all', orderBy: ['id'], replace: { version: 'id' }, cluster: 'main' } as const
  await (await clickhouse<{ id: string }>({ ...options, columns: { id: 'String' } }).open(context)).close()
  expect(said.find((text) => text.startsWith('CREATE'))).toMatch(
    /^CREATE TABLE IF NOT EXISTS `default`\.`all` ON CLUSTER `main` \([^;]*ENGINE = ReplicatedReplacingMergeTree\(`id`\)\nORDER BY \(`id`\)/,
  )
  await (await clickhouse<Visit>({ ...options, columns, evolve: true }).open(context)).close()
  expect(said.find((text) => text.startsWith('ALTER'))).toBe(
    'ALTER TABLE `default`.`all` ON CLUSTER `main` ADD COLUMN IF NOT EXISTS `n` Nullable(Int64)',
  )
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})
