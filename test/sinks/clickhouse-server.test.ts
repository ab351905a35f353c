import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type Server, type TlsOptions } from 'node:tls'
import type { ClickHouseClient } from '@clickhouse/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { silentLogger } from '../../core/logger.ts'
import type { Delivery, OpenSink, Outcome } from '../../core/sink.ts'
import { type ClickHouseOptions, clickhouse, type Row } from '../../sinks/clickhouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { type Certificate, makeCertificate } from '../support/servers/certificate.ts'
import { type ClickHouseServer, startClickHouse } from '../support/servers/clickhouse-server.ts'
import { need } from '../support/servers/need.ts'
import { type FaultProxy, faultProxy } from '../support/servers/proxy.ts'
import { connectorContext, staged } from '../support/sink-suite.ts'

interface Visit {
  id: string
  n: number
}

const columns = { id: 'String', n: 'Int64' } as const
const visits = (count: number): Visit[] => Array.from({ length: count }, (_, n) => ({ id: `visit-${n}`, n }))
const MARKS =
  "_batch LowCardinality(String) MATERIALIZED getSetting('log_comment'), _seq UInt32 MATERIALIZED rowNumberInBlock()"
const KNOWS = 'SETTINGS non_replicated_deduplication_window = 1000'
const never = () => new AbortController().signal

let server: ClickHouseServer
let client: ClickHouseClient
let proxy: FaultProxy
let dataDir: string
const open: OpenSink<never>[] = []

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-clickhouse-'))
  server = await startClickHouse()
  proxy = await faultProxy(server)
  client = connectClickHouse({ url: server.url, database: 'default', username: server.user, password: server.password })
})
afterAll(async () => {
  for (const each of open) await each.close()
  await client.close()
  await proxy.close()
  await server.close()
  rmSync(dataDir, { recursive: true, force: true })
})

const command = (query: string) => client.command({ query })

async function sql<R = Record<string, unknown>>(query: string): Promise<R[]> {
  const settings = { output_format_json_quote_64bit_integers: 0 } as const
  return (await client.query({ query, format: 'JSONEachRow', clickhouse_settings: settings })).json<R>()
}

interface Given {
  readonly rowSchema?: unknown
  readonly env?: Record<string, string>
  readonly said?: string[]
}

async function opened<T extends Row = Visit>(
  options: ClickHouseOptions<NoInfer<T>>,
  { rowSchema, env = {}, said = [] }: Given = {},
): Promise<OpenSink<T>> {
  const credentials = { CLICKHOUSE_USER: server.user, CLICKHOUSE_PASSWORD: server.password }
  const logger = { ...silentLogger, warn: (_fields: object, message: string) => void said.push(message) }
  const context = connectorContext(dataDir, {
    env: { CLICKHOUSE_URL: `http://127.0.0.1:${proxy.port}`, ...credentials, ...env },
    logger,
    rowSchema,
  })
  const sink = await clickhouse<T>(options).open(context)
  open.push(sink as unknown as OpenSink<never>)
  return sink
}

/** What went wrong, with all that it says, its causes' too. */
async function failure(sink: Promise<unknown>): Promise<string> {
  return sink.then(
    () => 'nothing went wrong',
    (error: Error) => `${error.message}`,
  )
}

const again = (delivery: Delivery, attempt = 2): Delivery => ({ ...delivery, attempt, afterUnknown: true })
const APPLIED: Outcome = { kind: 'applied' }

describe('who we are', () => {
  test('comes from the environment or the address, and stands in no identity and no message', async () => {
    const sink = await opened({ table: 'creds', columns })
    expect(sink.identity).toBe(`http://127.0.0.1:${proxy.port}/default.creds`)
    const password = encodeURIComponent(server.password)
    const url = `http://${server.user}:${password}@127.0.0.1:${server.port}/default`
    const other = await opened(
      { table: 'creds', columns, url },
      { env: { CLICKHOUSE_USER: '', CLICKHOUSE_PASSWORD: '' } },
    )
    expect(other.identity).toBe(`${server.url}/default.creds`)
    expect(await other.deliver(staged(other, visits(1)), never())).toEqual(APPLIED)
    const said = await failure(opened({ table: 'creds', columns }, { env: { CLICKHOUSE_PASSWORD: 'pass:wrong' } }))
    expect(said).toMatch(/Authentication failed/)
    expect(said).not.toMatch(/pass:w/)
    expect(
      await failure(
        opened({ table: 'creds', columns }, { env: { CLICKHOUSE_URL: 'http://u:%zz@h', CLICKHOUSE_PASSWORD: '' } }),
      ),
    ).toMatch(/CLICKHOUSE_URL must be an address/)
  })

  test('headers reach what stands before the server', async () => {
    const heard: string[] = []
    proxy.next({ kind: 'delay', ms: 1 }, { when: (first) => heard.push(first.toString()) > 0 })
    await opened({ table: 'creds', columns, headers: { 'X-Tenant': 'shop' } })
    expect(heard[0]).toMatch(/X-Tenant: shop/)
    proxy.calm()
  })
})

need('openssl')('over TLS', () => {
  let certificate: Certificate
  let folder: string
  const servers: Server[] = []
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-clickhouse-tls-'))
    certificate = makeCertificate(folder)
  })
  afterAll(async () => {
    for (const each of servers) await new Promise((resolve) => each.close(resolve))
    rmSync(folder, { recursive: true, force: true })
  })

  /** TLS before the server, as it has it itself or a proxy before it has. */
  async function terminate(options: TlsOptions = {}): Promise<string> {
    const { certificateFile, keyFile } = certificate
    const tls = { cert: readFileSync(certificateFile), key: readFileSync(keyFile), ...options }
    const secure = createServer(tls, (near) => {
      const far = connect(server.port, '127.0.0.1')
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const)
        from.on('error', () => to.destroy()).pipe(to)
    })
    servers.push(secure)
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve))
    return `https://127.0.0.1:${(secure.address() as { port: number }).port}`
  }

  test('rows arrive when its authority is named, and a certificate that nobody vouches for is refused', async () => {
    const url = await terminate()
    const said = await failure(opened({ table: 'tls', columns, url }))
    expect(said).toMatch(/signed by nobody who is trusted here: .*CLICKHOUSE_CA_FILE/)
    for (const given of [{ env: { CLICKHOUSE_CA_FILE: certificate.certificateFile } }, { tls: true }]) {
      const tls = given.tls ? { caFile: certificate.certificateFile } : undefined
      const sink = await opened({ table: 'tls', columns, url, ...(tls ? { tls } : {}) }, { env: given.env ?? {} })
      const delivery = staged(sink, visits(2_000), { name: `tls/${given.tls}` })
      expect(await sink.deliver(delivery, never())).toEqual(APPLIED)
    }
    expect(await sql('SELECT count() AS rows FROM tls')).toEqual([{ rows: 4_000 }])
  })

  test('a server that asks for a certificate gets ours, beside the password', async () => {
    const url = await terminate({ requestCert: true, rejectUnauthorized: true, ca: certificate.ca })
    const caFile = certificate.certificateFile
    expect(await failure(opened({ table: 'tls', columns, url, tls: { caFile } }))).not.toBe('nothing went wrong')
    const tls = { caFile, certFile: caFile, keyFile: certificate.keyFile }
    const sink = await opened({ table: 'tls', columns, url, tls })
    expect(await sink.deliver(staged(sink, visits(1), { name: 'mutual' }), never())).toEqual(APPLIED)
  })

  test('a name that is not the certificate’s, a missing file, and files for http are said', async () => {
    const url = (await terminate()).replace('127.0.0.1', 'localhost')
    const caFile = certificate.certificateFile
    const named = { caFile, serverName: 'clickhouse.example' }
    expect(await failure(opened({ table: 'tls', columns, url, tls: named }))).toMatch(/for another name/)
    expect(await failure(opened({ table: 'tls', columns, url, tls: { caFile: '/not/there' } }))).toMatch(
      /the file \/not\/there cannot be read \(ENOENT\)/,
    )
    expect(() => clickhouse<Visit>({ table: 'tls', url: 'http://host', tls: { caFile } })).toThrow(/no https/)
    expect(() => clickhouse<Visit>({ table: 'tls', url: 'https://host', tls: { certFile: caFile } })).toThrow(/its key/)
  })
})

describe('how rows travel', () => {
  test.each(['zstd', 'gzip', 'none'] as const)('as %s they arrive as they are', async (compression) => {
    const sink = await opened({ table: `packed_${compression}`, columns, compression })
    const delivery = staged(sink, visits(5_000))
    expect(await sink.deliver(delivery, never())).toEqual(APPLIED)
    expect(await sink.deliver(again(delivery), never())).toEqual(APPLIED)
    expect(await sql(`SELECT count() AS rows, sum(n) AS sum FROM packed_${compression}`)).toEqual([
      { rows: 5_000, sum: 12_497_500 },
    ])
  })

  test('an attempt that takes longer than it may is unknown, and says so; the next one makes it good', async () => {
    const sink = await opened({ table: 'slow', columns, timeout: '1s' })
    const delivery = staged(sink, visits(10))
    proxy.next({ kind: 'delay', ms: 3_000 }, { when: (first) => first.includes('INSERT') })
    expect(await sink.deliver(delivery, never())).toEqual({ kind: 'unknown', reason: 'no answer within 1000 ms' })
    proxy.next({ kind: 'muteReply' }, { when: (first) => first.includes('INSERT') })
    expect(await sink.deliver({ ...delivery, name: 'other' }, never())).toMatchObject({ kind: 'unknown' })
    for (const name of [delivery.name, 'other'])
      expect(await sink.deliver(again({ ...delivery, name }), never())).toEqual(APPLIED)
    expect(await sql('SELECT count() AS rows FROM slow')).toEqual([{ rows: 20 }])
  })

  test('a server that takes longer than an idle connection is kept is waited for', async () => {
    const sink = await opened({ table: 'patient', columns })
    proxy.next({ kind: 'delay', ms: 2_500 }, { when: (first) => first.includes('INSERT') })
    expect(await sink.deliver(staged(sink, visits(1)), never())).toEqual(APPLIED)
  })

  test('outputs to one table take turns, so that its parts do not explode', async () => {
    const one = clickhouse<Visit>({ table: 'turns', columns, name: 'one' })
    const two = clickhouse<Visit>({ table: 'turns', columns, name: 'two' })
    const context = connectorContext(dataDir, {
      env: { CLICKHOUSE_URL: server.url, CLICKHOUSE_USER: server.user, CLICKHOUSE_PASSWORD: server.password },
    })
    const sinks = [await one.open(context), await two.open(context)]
    open.push(...(sinks as unknown as OpenSink<never>[]))
    const started = performance.now()
    const all = sinks.flatMap((sink, s) =>
      Array.from({ length: 5 }, (_, n) => sink.deliver(staged(sink, visits(1), { name: `turn/${s}/${n}` }), never())),
    )
    expect(await Promise.all(all)).toEqual(Array(10).fill(APPLIED))
    expect(performance.now() - started).toBeGreaterThan(170)
  })

  test('rows that the server gathers are recognized, and not counted: the guarantee says so', async () => {
    const heard: string[] = []
    const said: string[] = []
    const sink = await opened({ table: 'gathered', columns, asyncInsert: true }, { said })
    expect(sink.guarantee).toBe('windowed')
    expect(said.join()).toMatch(/asyncInsert/)
    proxy.next({ kind: 'loseReply' }, { when: (first) => first.includes('INSERT') && heard.push(first.toString()) > 0 })
    const delivery = staged(sink, visits(3), { name: 'gather/1' })
    expect(await sink.deliver(delivery, never())).toMatchObject({ kind: 'unknown' })
    expect(heard[0]).toMatch(/async_insert=1&.*wait_for_async_insert=1/)
    expect(heard[0]).not.toMatch(/log_comment/)
    expect(await sink.deliver(again(delivery), never())).toEqual(APPLIED)
    expect(await sql('SELECT count() AS rows FROM gathered')).toEqual([{ rows: 3 }])
    const late = { ...again(delivery, 3), stagedAt: Date.now() - 86_400_000 }
    expect(await sink.deliver(late, never())).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching(/cannot be counted: a person must decide/),
    })
  })
})

describe('a table as it changes', () => {
  const Before = z.object({ id: z.string(), n: z.number().int() })
  const After = Before.extend({
    price: z.number(),
    kind: z.enum(['a', 'b']),
    tags: z.array(z.string()),
    at: z.date().optional(),
  })

  test('a new field is a new column that takes null, when that is asked for, and batches of before still fit', async () => {
    const old = await opened<z.infer<typeof Before>>({ table: 'grown' }, { rowSchema: Before })
    const waiting = staged(old, visits(2), { name: 'before' })
    type Grown = z.infer<typeof After>
    expect(await failure(opened<Grown>({ table: 'grown' }, { rowSchema: After }))).toMatch(
      /column price is missing: say evolve: true, or ALTER TABLE … ADD COLUMN `price` Float64/,
    )
    for (const _ of ['first', 'again']) {
      const sink = await opened<Grown>({ table: 'grown', evolve: true }, { rowSchema: After })
      const row: Grown = { id: 'x', n: 9, price: 1.5, kind: 'a', tags: ['t'] }
      expect(await sink.deliver(staged(sink, [row], { name: 'after' }), never())).toEqual(APPLIED)
      expect(await sink.deliver(waiting, never())).toEqual(APPLIED)
    }
    expect(await sql('SELECT * FROM grown ORDER BY n DESC')).toEqual([
      { id: 'x', n: 9, price: 1.5, kind: 'a', tags: ['t'], at: null },
      { id: 'visit-1', n: 1, price: null, kind: null, tags: [], at: null },
      { id: 'visit-0', n: 0, price: null, kind: null, tags: [], at: null },
    ])
    expect(
      await sql(
        "SELECT name, type FROM system.columns WHERE table = 'grown' AND name IN ('price', 'kind') ORDER BY name",
      ),
    ).toEqual([
      { name: 'kind', type: 'LowCardinality(Nullable(String))' },
      { name: 'price', type: 'Nullable(Float64)' },
    ])
    const named = await opened<{ id: string; price: number; more: number }>({
      table: 'grown',
      evolve: true,
      columns: { id: 'String', price: 'Float64', more: 'UInt8' },
    })
    expect(await named.deliver(staged(named, [{ id: 'y', price: 2, more: 3 }], { name: 'named' }), never())).toEqual(
      APPLIED,
    )
  })

  test('a column that takes nothing of what the schema says is an error at the start', async () => {
    await command(`CREATE TABLE clash (id String, n UUID, ${MARKS}) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`)
    const sink = opened<z.infer<typeof Before>>({ table: 'clash', evolve: true }, { rowSchema: Before })
    expect(await failure(sink)).toMatch(/column n is UUID, which takes nothing of what the schema says \(Int64\)/)
  })
})

describe('what views write to', () => {
  test('has the rows once, though the first attempt did not get there', async () => {
    await command(`CREATE TABLE source (id String, n Int64, ${MARKS}) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`)
    await command(`CREATE TABLE target (id String) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`)
    await command('CREATE MATERIALIZED VIEW watching TO target AS SELECT id FROM source')
    const sink = await opened({ table: 'source', columns })
    expect(sink.guarantee).toBeUndefined()
    const delivery = staged(sink, visits(5), { name: 'views/1' })
    await command('RENAME TABLE target TO elsewhere')
    expect(await sink.deliver(delivery, never())).toMatchObject({ kind: 'unknown' })
    await command('RENAME TABLE elsewhere TO target')
    for (const attempt of [2, 3]) expect(await sink.deliver(again(delivery, attempt), never())).toEqual(APPLIED)
    for (const table of ['source', 'target'])
      expect(await sql(`SELECT count() AS rows FROM ${table}`)).toEqual([{ rows: 5 }])
    const late = { ...again(delivery, 4), stagedAt: Date.now() - 86_400_000 }
    expect(await sink.deliver(late, never())).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching(/a person/),
    })
  })

  test('a target that takes repeats is named, with what to change', async () => {
    await command(`CREATE TABLE source2 (id String, ${MARKS}) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`)
    await command('CREATE TABLE target2 (id String) ENGINE = MergeTree ORDER BY tuple()')
    await command('CREATE MATERIALIZED VIEW watching2 TO target2 AS SELECT id FROM source2')
    const said: string[] = []
    const sink = await opened<{ id: string }>({ table: 'source2' }, { said })
    expect(sink.guarantee).toBe('windowed')
    expect(said.join()).toMatch(/target2` MODIFY SETTING non_replicated_deduplication_window = 100000/)
  })
})

describe('a Distributed table', () => {
  const shard = async (window: number) => {
    await command('CREATE DATABASE IF NOT EXISTS shard')
    await command('DROP TABLE IF EXISTS shard.part SYNC')
    await command(
      `CREATE TABLE shard.part (id String, n Int64) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = ${window}`,
    )
  }
  const over = async (name: string, key: string, database = "'shard'") =>
    command(
      `CREATE OR REPLACE TABLE ${name} (id String, n Int64) ENGINE = Distributed('alone', ${database}, 'part', ${key})`,
    )

  test('hands a batch on under its name, so that the table behind it takes it once', async () => {
    await shard(1_000)
    await over('spread', 'cityHash64(id, n)')
    const said: string[] = []
    const sink = await opened({ table: 'spread', columns }, { said })
    expect(sink.guarantee).toBe('windowed')
    expect(said.join()).toMatch(/Distributed has taken cannot be counted/)
    const delivery = staged(sink, visits(1_000), { name: 'spread/1' })
    proxy.next({ kind: 'loseReply' }, { when: (first) => first.includes('INSERT') })
    expect(await sink.deliver(delivery, never())).toMatchObject({ kind: 'unknown' })
    expect(await sql('SELECT count() AS rows FROM shard.part')).toEqual([{ rows: 1_000 }])
    for (const attempt of [2, 3]) expect(await sink.deliver(again(delivery, attempt), never())).toEqual(APPLIED)
    expect(await sink.deliver({ ...delivery, name: 'spread/2' }, never())).toEqual(APPLIED)
    expect(await sql('SELECT count() AS rows FROM shard.part')).toEqual([{ rows: 2_000 }])
    const late = { ...again(delivery, 4), stagedAt: Date.now() - 86_400_000 }
    expect(await sink.deliver(late, never())).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching(/a person/),
    })
  })

  test('is refused where it shards by chance, or where what is behind it takes repeats', async () => {
    await shard(1_000)
    await over('chance', 'rand()', "''")
    expect(await failure(opened({ table: 'chance', columns }))).toMatch(/shards by rand\(\), .*cityHash64\(id\)/)
    await shard(0)
    await over('forgetful', 'n')
    expect(await failure(opened({ table: 'forgetful', columns }))).toMatch(
      /ALTER TABLE shard\.part MODIFY SETTING non_replicated_deduplication_window = 100000, on each shard/,
    )
  })

  test('says what is needed where it cannot see the tables of its shards', async () => {
    await over('blind', 'n', "'elsewhere'")
    const said: string[] = []
    expect((await opened({ table: 'blind', columns }, { said })).guarantee).toBe('windowed')
    expect(said.join()).toMatch(/elsewhere\.part of cluster alone cannot be seen from here: on each shard it needs/)
  })

  test('that lacks a column says where to add it', async () => {
    await shard(1_000)
    await over('narrow', 'n')
    const sink = opened<{ id: string; more: number }>({
      table: 'narrow',
      evolve: true,
      columns: { id: 'String', more: 'UInt8' },
    })
    expect(await failure(sink)).toMatch(/lacks the column more Nullable\(UInt8\): add it to the table on each shard/)
  })
})

test.each([
  [{ compression: 'lz4' }, /compression must be/],
  [{ timeout: '61s' }, /timeout must be at most 60s/],
  [{ timeout: '0s' }, /timeout must be a positive duration/],
  [{ cluster: 'a b' }, /cluster must be a plain name/],
  [{ replicated: { path: 'x' } }, /replicated.path must be a path/],
  [{ asyncInsert: true, orderBy: ['id'], replace: { version: 'n' } }, /do not go together/],
])('%o is refused when the pipeline is built', (options, message) => {
  expect(() => clickhouse<Visit>({ table: 't', ...options } as ClickHouseOptions<Visit>)).toThrow(message)
})
