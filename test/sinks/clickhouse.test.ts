import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ClickHouseClient } from '@clickhouse/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Delivery, OpenSink, Outcome, Sink } from '../../core/sink.ts'
import { openWarehouse, type Warehouse } from '../../embedded/warehouse.ts'
import { type ClickHouseOptions, clickhouse, type Row } from '../../sinks/clickhouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { connectorContext, rowMeta, sinkSuite, staged } from '../support/sink-suite.ts'

interface Visit {
  id: string
  n: number
  at: number
}

const visits = (count: number, first = 0): Visit[] =>
  Array.from({ length: count }, (_, n) => ({ id: `visit-${first + n}`, n: first + n, at: 1_700_000_000_000 + n }))
const columns = { id: 'String', n: 'Int64', at: 'DateTime64(3)' } as const
const FITS =
  "id String, _batch LowCardinality(String) MATERIALIZED getSetting('log_comment'), _seq UInt32 MATERIALIZED rowNumberInBlock()"
const KNOWS = 'SETTINGS non_replicated_deduplication_window = 1000'
const never = () => new AbortController().signal

let dataDir: string
let warehouse: Warehouse
let client: ClickHouseClient
let proxy: Proxy
const open: OpenSink<never>[] = []

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'millrace-clickhouse-'))
  warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  client = connectClickHouse({ ...warehouse, database: 'default' })
  proxy = await lossyProxy(warehouse.socketPath)
})

afterAll(async () => {
  for (const each of open) await each.close()
  await client.close()
  await proxy.close()
  await warehouse.close()
  await rm(dataDir, { recursive: true, force: true })
})

async function sql<R = Record<string, unknown>>(query: string): Promise<R[]> {
  const result = await client.query({
    query,
    format: 'JSONEachRow',
    clickhouse_settings: { output_format_json_quote_64bit_integers: 0 },
  })
  return result.json<R>()
}

async function opened<T extends Row>(
  options: ClickHouseOptions<NoInfer<T>>,
  given: { rowSchema?: unknown; logger?: typeof silentLogger } = {},
) {
  const sink = await clickhouse<T>(options).open(connectorContext(dataDir, given))
  open.push(sink as unknown as OpenSink<never>)
  return sink
}

const counts = async (table: string) =>
  (
    await sql(
      `SELECT count() AS rows, uniqExact(id) AS ids, uniqExact(_batch) AS batches, uniqExact(_batch, _seq) AS places FROM ${table}`,
    )
  )[0]

async function until(what: () => boolean, within = 30_000): Promise<void> {
  for (const end = Date.now() + within; Date.now() < end; await systemRuntime.sleep(2)) if (what()) return
  throw new Error(`it did not come to be within ${within} ms`)
}

interface Proxy {
  readonly url: string
  /** Cuts the next connections that carry an INSERT: before it is sent on, in its middle, or when its answer comes. */
  cut(what: 'body' | 'reply' | undefined, times?: number): void
  readonly cuts: number
  close(): Promise<void>
}

/** A way to the warehouse over the network, on which connections are lost. */
async function lossyProxy(socketPath: string): Promise<Proxy> {
  let what: 'body' | 'reply' | undefined
  let left = 0
  let cuts = 0
  const sockets = new Set<Socket>()
  const server: Server = createServer((near) => {
    const far = connect(socketPath)
    let inserting = false
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket
        .on('error', () => undefined)
        .on('close', () => {
          sockets.delete(socket)
          near.destroy()
          far.destroy()
        })
    }
    const cut = () => {
      left -= 1
      cuts += 1
      near.destroy()
    }
    near.on('data', (chunk: Buffer) => {
      if (chunk.includes('INSERT')) inserting = true
      else if (chunk.subarray(0, 5).toString() === 'POST ') inserting = false
      if (inserting && what === 'body' && left > 0) {
        far.write(chunk.subarray(0, chunk.length / 2))
        cut()
      } else far.write(chunk)
    })
    far.on('data', (chunk: Buffer) => {
      if (inserting && what === 'reply' && left > 0) cut()
      else near.write(chunk)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${address.port}`,
    cut(next, times = 1) {
      what = next
      left = next ? times : 0
    },
    get cuts() {
      return cuts
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Sends a batch until there is an answer for it, as the engine's lane does. */
async function insist<T>(
  sink: OpenSink<T>,
  delivery: Delivery,
  within = 60_000,
): Promise<{ outcome: Outcome; attempts: number }> {
  let afterUnknown = false
  const end = Date.now() + within
  for (let attempt = 1; ; attempt++) {
    const outcome = await sink.deliver({ ...delivery, attempt, afterUnknown }, never())
    if (outcome.kind === 'applied' || outcome.kind === 'rejected') return { outcome, attempts: attempt }
    if (Date.now() > end) throw new Error(`no answer after ${attempt} attempts: ${outcome.reason}`)
    afterUnknown ||= outcome.kind === 'unknown'
    await systemRuntime.sleep(10)
  }
}

sinkSuite<Visit>('clickhouse, embedded', async () => {
  await sql('SELECT 1')
  await client.command({ query: 'DROP TABLE IF EXISTS suite SYNC' })
  return {
    context: connectorContext(dataDir),
    sink: () => clickhouse<Visit>({ table: 'suite', columns }),
    rows: visits,
    unencodable: { id: 'x', n: 1.5, at: 0 },
    read: () => sql('SELECT id, n, toUnixTimestamp64Milli(at) AS at FROM suite'),
    close: async () => undefined,
  }
})

sinkSuite<Visit>('clickhouse, by an address', async () => {
  await client.command({ query: 'DROP TABLE IF EXISTS suite SYNC' })
  const way = await lossyProxy(warehouse.socketPath)
  return {
    context: connectorContext(dataDir, {
      env: { CLICKHOUSE_URL: `${way.url.replace('//', '//user:secret@')}/default` },
    }),
    sink: () => clickhouse<Visit>({ table: 'suite', columns }),
    rows: visits,
    unencodable: { id: 'x', n: 1.5, at: 0 },
    read: () => sql('SELECT id, n, toUnixTimestamp64Milli(at) AS at FROM suite'),
    async down() {
      await way.close()
      // the client is to hear of it before it is asked to send: on a connection that breaks meanwhile, nobody knows
      await new Promise((resolve) => setTimeout(resolve, 200))
    },
    close: () => way.close(),
  }
})

test('a row says its batch and its place in it, and hides both from SELECT *', async () => {
  const sink = await opened<Visit>({ table: 'places', columns })
  await sink.deliver(staged(sink, visits(3), { name: 'life/a/0/1/s/0' }), never())
  expect(await sql('SELECT _batch, _seq, n FROM places ORDER BY n')).toEqual(
    [0, 1, 2].map((n) => ({ _batch: 'life/a/0/1/s/0', _seq: n, n })),
  )
  expect(await sql('SELECT * EXCEPT at FROM places WHERE n = 1')).toEqual([{ id: 'visit-1', n: 1 }])
})

test('half a million rows are one block: numbered through, and gone whole when the last is refused', async () => {
  const sink = await opened<Visit>({ table: 'large', columns })
  const delivery = staged(sink, visits(500_000))
  expect(await sink.deliver(delivery, never())).toEqual({ kind: 'applied' })
  expect(await sql('SELECT count() AS rows, max(_seq) AS last, countIf(_seq != n) AS wrong FROM large')).toEqual([
    { rows: 500_000, last: 499_999, wrong: 0 },
  ])
  const body = Buffer.concat([delivery.body, Buffer.from('["x","not a number",1]\n')])
  const outcome = await sink.deliver({ ...delivery, name: 'other', body, rows: 500_001 }, never())
  expect(outcome).toMatchObject({ kind: 'rejected', retry: 'never', rows: [{ row: 500_000 }] })
  expect(await sql("SELECT count() AS rows FROM large WHERE _batch = 'other'")).toEqual([{ rows: 0 }])
}, 60_000)

test('a database of its own is made in the embedded warehouse', async () => {
  const sink = await opened<Visit>({ table: 'visits', database: 'own', columns })
  expect(sink.identity).toBe('embedded:clickhouse/own.visits')
  const delivery = staged(sink, visits(4))
  await sink.deliver(delivery, never())
  await sink.deliver({ ...delivery, attempt: 2, afterUnknown: true }, never())
  expect(await counts('own.visits')).toEqual({ rows: 4, ids: 4, batches: 1, places: 4 })
})

test('a name that comes again changes nothing; the same rows under another name are other rows', async () => {
  const sink = await opened<Visit>({ table: 'names', columns })
  const delivery = staged(sink, visits(10), { name: 'one' })
  for (let n = 0; n < 3; n++) expect(await sink.deliver(delivery, never())).toEqual({ kind: 'applied' })
  expect(await counts('names')).toEqual({ rows: 10, ids: 10, batches: 1, places: 10 })
  await sink.deliver({ ...delivery, name: 'two' }, never())
  expect(await counts('names')).toEqual({ rows: 20, ids: 10, batches: 2, places: 20 })
})

test('a group is one insert under a name of its own', async () => {
  const sink = await opened<Visit>({ table: 'groups', columns })
  const parts = [staged(sink, visits(10)), staged(sink, visits(5, 10)), staged(sink, visits(7, 15))]
  const body = Buffer.concat(parts.map((part) => part.body))
  const group = { ...parts[0]!, name: 'group/1', body, rows: 22 }
  expect(parts.map((part) => part.head)).toEqual(Array(3).fill(group.head))
  await sink.deliver(group, never())
  expect(
    await sql('SELECT groupUniqArray(_batch) AS batches, countIf(_seq != n) AS wrong, count() AS rows FROM groups'),
  ).toEqual([{ batches: ['group/1'], wrong: 0, rows: 22 }])
})

test('rows that the table remembers and does not have are sent again, each at its place', async () => {
  const sink = await opened<Visit>({ table: 'lost', columns })
  const delivery = staged(sink, visits(100), { name: `it's "lost" \\ here` })
  for (const gone of ['_seq % 7 = 3', '1']) {
    await sink.deliver(delivery, never())
    await client.command({ query: `ALTER TABLE lost DELETE WHERE ${gone} SETTINGS mutations_sync = 2` })
    expect((await sql('SELECT count() AS rows FROM lost'))[0]!.rows).toBe(gone === '1' ? 0 : 86)
    expect(await sink.deliver(delivery, never())).toEqual({ kind: 'applied' })
    expect((await sql('SELECT count() AS rows FROM lost'))[0]!.rows).toBe(gone === '1' ? 0 : 86)
    expect(await sink.deliver({ ...delivery, attempt: 2, afterUnknown: true }, never())).toEqual({ kind: 'applied' })
    expect(
      await sql(
        'SELECT count() AS rows, uniqExact(_seq) AS places, countIf(_seq != n) AS wrong, uniqExact(_batch) AS b FROM lost',
      ),
    ).toEqual([{ rows: 100, places: 100, wrong: 0, b: 1 }])
  }
})

test('so are thousands of rows', async () => {
  const sink = await opened<Visit>({ table: 'lost_many', columns })
  const delivery = staged(sink, visits(5_000), { name: 'many' })
  await sink.deliver(delivery, never())
  await client.command({ query: 'ALTER TABLE lost_many DELETE WHERE _seq % 7 != 3 SETTINGS mutations_sync = 2' })
  expect(await sink.deliver({ ...delivery, attempt: 2, afterUnknown: true }, never())).toEqual({ kind: 'applied' })
  expect(await counts('lost_many')).toEqual({ rows: 5_000, ids: 5_000, batches: 1, places: 5_000 })
})

test('replies that are lost and requests that are cut leave each row there once', async () => {
  const sink = await opened<Visit>({ table: 'cut', columns, url: proxy.url })
  const before = proxy.cuts
  for (let n = 0; n < 60; n++) {
    proxy.cut(n % 3 === 0 ? 'body' : n % 3 === 1 ? 'reply' : undefined, 1 + (n % 2))
    await insist(sink, staged(sink, visits(50, n * 50), { name: `cut/${n}` }))
  }
  proxy.cut(undefined)
  expect(proxy.cuts - before).toBeGreaterThanOrEqual(40)
  expect(await counts('cut')).toEqual({ rows: 3_000, ids: 3_000, batches: 60, places: 3_000 })
}, 60_000)

test('a request whose reply is lost is unknown, and one that nobody took is notSent', async () => {
  const way = await lossyProxy(warehouse.socketPath)
  const sink = await opened<Visit>({ table: 'outcomes', columns, url: way.url })
  way.cut('reply')
  expect(await sink.deliver(staged(sink, visits(1), { name: 'a' }), never())).toMatchObject({ kind: 'unknown' })
  await way.close()
  expect(await sink.deliver(staged(sink, visits(1), { name: 'b' }), never())).toMatchObject({ kind: 'notSent' })
})

test('rows that the server refuses are named, whatever their number, and nothing of the batch is applied', async () => {
  const sink = await opened<Visit>({ table: 'refused', columns })
  const good = staged(sink, visits(5_000))
  const bad = [0, 1, 17, 999, 1_000, 2_500, 4_999]
  const lines = Buffer.from(good.body).toString().trimEnd().split('\n')
  for (const n of bad) lines[n] = n % 2 === 0 ? '["secret value","not a number",1]' : '["secret value",1,"not a date"]'
  const body = Buffer.from(`${lines.join('\n')}\n`)
  const outcome = await sink.deliver({ ...good, body }, never())
  expect(outcome).toMatchObject({ kind: 'rejected', retry: 'never' })
  expect((outcome as unknown as { rows: { row: number }[] }).rows.map((each) => each.row)).toEqual(bad)
  expect(JSON.stringify(outcome)).not.toMatch(/secret|not a/)
  expect(await sql('SELECT count() AS rows FROM refused')).toEqual([{ rows: 0 }])
  const rest = lines.filter((_, n) => !bad.includes(n))
  const again = { ...good, name: 'rest', rows: rest.length, body: Buffer.from(`${rest.join('\n')}\n`) }
  expect(await sink.deliver(again, never())).toEqual({ kind: 'applied' })
  expect(await sql('SELECT count() AS rows FROM refused')).toEqual([{ rows: rest.length }])
})

test('a row that breaks a constraint of the table is named, and the rest can be sent', async () => {
  await client.command({
    query: `CREATE TABLE bound (${FITS}, n Int64, CONSTRAINT few CHECK n < 5) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`,
  })
  const sink = await opened<{ id: string; n: number }>({ table: 'bound' })
  const rows = [1, 2, 7, 3].map((n) => ({ id: 'violated at row 1.', n }))
  expect(await sink.deliver(staged(sink, rows), never())).toMatchObject({
    kind: 'rejected',
    retry: 'never',
    rows: [{ row: 2 }],
  })
})

test('a table that was changed after the batch was staged is unknown, and says what is wrong with it', async () => {
  const sink = await opened<Visit>({ table: 'changed', columns })
  const delivery = staged(sink, visits(3))
  await client.command({ query: 'ALTER TABLE changed DROP COLUMN n SETTINGS mutations_sync = 2' })
  expect(await sink.deliver(delivery, never())).toMatchObject({
    kind: 'unknown',
    reason: expect.stringContaining('lost a column'),
  })
  await client.command({ query: 'ALTER TABLE changed ADD COLUMN n Int64, ADD COLUMN more String' })
  expect(await sink.deliver({ ...delivery, attempt: 2, afterUnknown: true }, never())).toEqual({ kind: 'applied' })
  expect(await counts('changed')).toMatchObject({ rows: 3, ids: 3 })
})

test('of several versions of a thing the newest stays, also when an unknown batch is applied twice', async () => {
  interface Profile {
    id: string
    version: number
    gone: boolean
  }
  const sink = await opened<Profile>({
    table: 'profiles',
    columns: { id: 'String', version: 'UInt64', gone: 'Bool' },
    orderBy: ['id'],
    replace: { version: 'version', deleted: 'gone' },
  })
  expect(sink.guarantee ?? 'idempotent').toBe('idempotent')
  const rows = [
    { id: 'a', version: 1, gone: false },
    { id: 'a', version: 2, gone: false },
    { id: 'b', version: 5, gone: true },
    { id: 'b', version: 4, gone: false },
  ]
  const delivery = staged(sink, rows)
  await sink.deliver(delivery, never())
  await client.command({ query: 'ALTER TABLE profiles DELETE WHERE 1 SETTINGS mutations_sync = 2' })
  for (const attempt of [2, 3])
    expect(await sink.deliver({ ...delivery, attempt, afterUnknown: true }, never())).toEqual({ kind: 'applied' })
  expect(await sql('SELECT id, version FROM profiles FINAL')).toEqual([{ id: 'a', version: 2 }])
})

test('the table is made from the source schema', async () => {
  const Event = z.object({
    id: z.string(),
    kind: z.enum(['view', 'buy']),
    amount: z.number().nullable(),
    count: z.number().int(),
    at: z.date(),
    tags: z.array(z.string()),
    extra: z.object({ a: z.number() }).optional(),
  })
  const sink = await opened<z.infer<typeof Event>>({ table: 'derived' }, { rowSchema: Event })
  expect(
    await sql("SELECT name, type FROM system.columns WHERE table = 'derived' AND default_kind = '' ORDER BY position"),
  ).toEqual([
    { name: 'id', type: 'String' },
    { name: 'kind', type: 'LowCardinality(String)' },
    { name: 'amount', type: 'Nullable(Float64)' },
    { name: 'count', type: 'Int64' },
    { name: 'at', type: 'DateTime64(3)' },
    { name: 'tags', type: 'Array(String)' },
    { name: 'extra', type: 'JSON' },
  ])
  const at = new Date(1_700_000_000_123)
  const row = { id: 'a', kind: 'buy', amount: null, count: 3, at, tags: ['x', 'ü"\n'], extra: { a: 1.5 } } as const
  await sink.deliver(staged(sink, [{ ...row, tags: [...row.tags] }]), never())
  expect(await sql('SELECT * REPLACE toUnixTimestamp64Milli(at) AS at FROM derived')).toEqual([
    { ...row, at: at.getTime() },
  ])
})

test('a table that is not there and cannot be derived asks for its columns', async () => {
  await expect(opened<Visit>({ table: 'nothing' })).rejects.toMatchObject({
    code: 'SINK_FAILED',
    message: expect.stringMatching(/name the columns/),
  })
  const Odd = z.object({ id: z.string(), odd: z.union([z.string(), z.number()]) })
  await expect(opened<z.infer<typeof Odd>>({ table: 'nothing' }, { rowSchema: Odd })).rejects.toMatchObject({
    message: expect.stringContaining('column odd'),
  })
})

test.each([
  [
    'a type that is not the one of the options',
    `(id UInt64) ENGINE = MergeTree ORDER BY id ${KNOWS}`,
    /is UInt64, and columns says String/,
  ],
  [
    'a column that is missing',
    `(other String) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`,
    /column id is missing: say evolve: true, or ALTER TABLE/,
  ],
  [
    'a column that is computed',
    `(a String, id String ALIAS a) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`,
    /column id is ALIAS/,
  ],
  [
    'no memory for names',
    `(${FITS}) ENGINE = MergeTree ORDER BY tuple()`,
    /MODIFY SETTING non_replicated_deduplication_window = 100000/,
  ],
  ['an engine that takes repeats', `(${FITS}) ENGINE = Log`, /engine Log takes a repeated batch twice/],
])('a table with %s is refused, with what to change', async (_, definition, message) => {
  await client.command({ query: 'DROP TABLE IF EXISTS misfit SYNC' })
  await client.command({ query: `CREATE TABLE misfit ${definition}` })
  await expect(opened<{ id: string }>({ table: 'misfit', columns: { id: 'String' } })).rejects.toMatchObject({
    code: 'SINK_FAILED',
    message: expect.stringMatching(message),
  })
})

test.each([
  ['the rows do not say their batch', `(id String) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`, /ADD COLUMN _batch/],
  [
    'rows vanish in time',
    `(${FITS}, t DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY tuple() TTL t + INTERVAL 1 DAY ${KNOWS}`,
    /TTL/,
  ],
  [
    'rows are merged away',
    `(${FITS}) ENGINE = ReplacingMergeTree ORDER BY id ${KNOWS}`,
    /ReplacingMergeTree changes rows/,
  ],
  ['nothing is kept', `(id String) ENGINE = Null`, /cannot be counted/],
])('the guarantee is windowed where %s', async (_, definition, remark) => {
  await client.command({ query: 'DROP TABLE IF EXISTS less SYNC' })
  await client.command({ query: `CREATE TABLE less ${definition}` })
  const said: string[] = []
  const logger = { ...silentLogger, warn: (_fields: object, message: string) => void said.push(message) }
  const sink = await opened<{ id: string }>({ table: 'less', columns: { id: 'String' } }, { logger })
  expect(sink.guarantee).toBe('windowed')
  expect(said.join()).toMatch(remark)
  const delivery = staged(sink, [{ id: 'a' }])
  expect(await sink.deliver(delivery, never())).toEqual({ kind: 'applied' })
  const late = { ...delivery, attempt: 2, afterUnknown: true, stagedAt: Date.now() - 51_000 }
  expect(await sink.deliver(late, never())).toEqual(
    /Null/.test(definition)
      ? { kind: 'applied' }
      : expect.objectContaining({ kind: 'unknown', reason: expect.stringContaining('a person') }),
  )
})

test('a materialized view whose target takes repeats lessens the guarantee, and one whose target does not keeps it', async () => {
  for (const window of [0, 1_000]) {
    for (const name of ['watched', 'watching', 'target'])
      await client.command({ query: `DROP TABLE IF EXISTS ${name} SYNC` })
    await client.command({ query: `CREATE TABLE watched (${FITS}) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}` })
    await client.command({
      query: `CREATE TABLE target (id String) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = ${window}`,
    })
    await client.command({ query: 'CREATE MATERIALIZED VIEW watching TO target AS SELECT id FROM watched' })
    const sink = await opened<{ id: string }>({ table: 'watched', columns: { id: 'String' } })
    expect(sink.guarantee ?? 'idempotent').toBe(window === 0 ? 'windowed' : 'idempotent')
    const delivery = staged(sink, [{ id: 'a' }, { id: 'b' }])
    for (const attempt of [1, 2]) await sink.deliver({ ...delivery, attempt }, never())
    if (window > 0) expect(await sql('SELECT count() AS rows FROM target')).toEqual([{ rows: 2 }])
  }
})

test('a field that the table has no column for, or a value that does not fit, is the row’s error', async () => {
  const sink = await opened<Visit>({ table: 'strict', columns })
  const encode = (row: object) => sink.encoder('t').row(row as Visit, rowMeta(0))
  const visit = visits(1)[0]!
  expect(encode(visit)).toBe('["visit-0",0,1700000000000]\n')
  expect(encode({ ...visit, more: undefined })).toBe(encode(visit))
  expect(() => encode({ ...visit, more: 1 })).toThrow(/no column for the field more/)
  expect(() => encode({ id: 'a', n: 1 })).toThrow(/column at .* got undefined/)
  expect(() => encode({ ...visit, n: null })).toThrow(/column n .* got null/)
  expect(() => encode({ ...visit, id: { secret: 1 } })).toThrow(/column id \(String\) takes text, got an object/)
})

test('a column with a default takes it where the field is absent', async () => {
  await client.command({
    query: `CREATE TABLE defaults (${FITS}, n Int64 DEFAULT 42) ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`,
  })
  const sink = await opened<{ id: string; n?: number }>({ table: 'defaults' })
  await sink.deliver(staged(sink, [{ id: 'a' }, { id: 'b', n: 7 }]), never())
  expect(await sql('SELECT id, n FROM defaults ORDER BY id')).toEqual([
    { id: 'a', n: 42 },
    { id: 'b', n: 7 },
  ])
})

test('thousands of rows are read as a few are: defaults, dates as text, constraints', async () => {
  await client.command({
    query: `CREATE TABLE many (${FITS}, n Int64 DEFAULT length(id), at DateTime64(3), CONSTRAINT few CHECK id != 'bad') ENGINE = MergeTree ORDER BY tuple() ${KNOWS}`,
  })
  interface Dated {
    id: string
    n?: number
    at: string
  }
  const sink = await opened<Dated>({ table: 'many' })
  const rows: Dated[] = Array.from({ length: 3_000 }, (_, n) => ({
    id: `visit-${n}`,
    at: `2026-01-02T03:04:05.${100 + (n % 900)}Z`,
    ...(n % 2 ? { n: -1 } : {}),
  }))
  for (const some of [rows.slice(0, 10), rows]) {
    await client.command({ query: 'TRUNCATE TABLE many' })
    expect(await sink.deliver(staged(sink, some, { name: `many/${some.length}` }), never())).toEqual({
      kind: 'applied',
    })
    expect(
      await sql(
        "SELECT countIf(n = -1) AS given, countIf(n = length(id)) AS made, min(at) = toDateTime64('2026-01-02 03:04:05.100', 3, 'UTC') AS dated FROM many",
      ),
    ).toEqual([{ given: some.length / 2, made: some.length / 2, dated: 1 }])
    const bad = [...some]
    bad[7] = { ...bad[7]!, id: 'bad' }
    expect(await sink.deliver(staged(sink, bad, { name: `bad/${some.length}` }), never())).toMatchObject({
      kind: 'rejected',
      rows: [{ row: 7 }],
    })
  }
})

test('another process may ask while inserts run', async () => {
  const sink = await opened<Visit>({ table: 'busy', columns })
  const other = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const reader = connectClickHouse({ ...other, database: 'default' })
  const inserts = Array.from({ length: 20 }, (_, n) =>
    sink.deliver(staged(sink, visits(1_000, n * 1_000), { name: `busy/${n}` }), never()),
  )
  const seen: number[] = []
  for (let n = 0; n < 10; n++) {
    const result = await reader.query({ query: 'SELECT toUInt32(count()) AS rows FROM busy', format: 'JSONEachRow' })
    seen.push((await result.json<{ rows: number }>())[0]!.rows)
  }
  expect((await Promise.all(inserts)).map((outcome) => outcome.kind)).toEqual(Array(20).fill('applied'))
  expect(seen.every((rows, n) => rows % 1_000 === 0 && rows >= (seen[n - 1] ?? 0))).toBe(true)
  expect(await counts('busy')).toEqual({ rows: 20_000, ids: 20_000, batches: 20, places: 20_000 })
  await reader.close()
  await other.close()
})

const KILLS = Number(process.env.CLICKHOUSE_KILLS ?? 40)
test(
  `kill -9 of the engine in the middle of inserts, ${KILLS} times: nothing lost, nothing doubled`,
  async () => {
    const sink = await opened<Visit>({ table: 'killed', columns })
    const lanes = 3
    let batches = 0
    let kills = 0
    let retried = 0
    let applied = 0
    const lane = async () => {
      while (kills < KILLS) {
        const n = batches++
        const { attempts } = await insist(sink, staged(sink, visits(2_000, n * 2_000), { name: `killed/${n}` }))
        applied += 1
        if (attempts > 1) retried += 1
      }
    }
    const killer = async () => {
      for (let last: number | undefined; kills < KILLS; ) {
        await warehouse.ready()
        const pid = warehouse.pid
        if (pid === undefined || pid === last) {
          await systemRuntime.sleep(5)
          continue
        }
        const goal = applied + (kills % 3)
        await until(() => applied >= goal)
        await systemRuntime.sleep(Math.random() * 80)
        process.kill(pid, 'SIGKILL')
        last = pid
        kills += 1
      }
    }
    await Promise.all([...Array.from({ length: lanes }, lane), killer()])
    await warehouse.ready()
    expect(retried).toBeGreaterThan(KILLS / 2)
    expect(await counts('killed')).toEqual({
      rows: batches * 2_000,
      ids: batches * 2_000,
      batches,
      places: batches * 2_000,
    })
  },
  KILLS * 5_000,
)

test.each([
  [{ table: 'a b' }, /table must be a plain name/],
  [{ table: 't', columns: {} }, /at least one column/],
  [{ table: 't', columns: { _seq: 'String' } }, /the sink's own/],
  [{ table: 't', columns: { 'a b': 'String' } }, /plain name, got 'a b'/],
  [{ table: 't', orderBy: 'a' }, /orderBy must be a list of columns, got 'a'/],
  [{ table: 't', replace: { version: 'v' } }, /replace needs orderBy/],
  [{ table: 't', columns: { a: 'String' }, orderBy: ['b'] }, /columns has no b/],
  [{ table: 't', columns: { a: 'Nullable(String)' }, orderBy: ['a'] }, /is Nullable/],
  [{ table: 't', url: 'host:8123' }, /url must be an address/],
])('wrong options are refused when the pipeline is built: %o', (options, message) => {
  expect(() => clickhouse<Row>(options as unknown as ClickHouseOptions<Row>)).toThrow(message)
})

test('columns are typed after the rows', () => {
  const to = (sink: Sink<Visit>) => sink.kind
  expect(to(clickhouse({ table: 't', columns, orderBy: ['id'] }))).toBe('clickhouse')
  expect(to(clickhouse({ table: 't' }))).toBe('clickhouse')
  // @ts-expect-error a number is no String
  to(clickhouse({ table: 't', columns: { ...columns, n: 'String' } }))
  // @ts-expect-error a column is missing
  to(clickhouse({ table: 't', columns: { id: 'String', n: 'Int64' } }))
  // @ts-expect-error no such column
  to(clickhouse({ table: 't', orderBy: ['other'] }))
})
