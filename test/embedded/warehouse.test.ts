import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { openWarehouse, type Warehouse } from '../../embedded/warehouse.ts'

const root = new URL('../..', import.meta.url)
let dataDir: string
let open: Warehouse[]

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'millrace-warehouse-'))
  open = []
})

afterEach(async () => {
  await Promise.all(open.map((warehouse) => warehouse.close()))
  await rm(dataDir, { recursive: true, force: true })
})

async function warehouse(folder = dataDir): Promise<Warehouse> {
  const opened = await openWarehouse({ dataDir: folder, runtime: systemRuntime, logger: silentLogger })
  open.push(opened)
  return opened
}

interface Reply {
  status: number
  code: string | undefined
  text: string
}

function post(
  { socketPath }: Warehouse,
  sql: string,
  { search = {}, body, encoding }: { search?: Record<string, string>; body?: string | Buffer; encoding?: string } = {},
): Promise<Reply> {
  const query = new URLSearchParams(body === undefined ? search : { ...search, query: sql })
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath,
        path: `/?${query}`,
        method: 'POST',
        agent: false,
        headers: encoding ? { 'Content-Encoding': encoding } : {},
      },
      async (response) =>
        resolve({
          status: response.statusCode!,
          code: response.headers['x-clickhouse-exception-code'] as string | undefined,
          text: await text(response),
        }),
    )
    sent.once('error', reject).end(body ?? sql)
  })
}

const alive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

async function until(what: () => boolean | Promise<boolean>, within = 15_000): Promise<void> {
  for (const end = Date.now() + within; Date.now() < end; await systemRuntime.sleep(20)) if (await what()) return
  throw new Error(`it did not come to be within ${within} ms`)
}

/** The ids of the warehouse processes of this data directory. */
async function running(): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-eo', 'pid,args'])
  const lines = stdout.split('\n').filter((line) => line.includes('warehouse-process') && line.includes(dataDir))
  return lines.map((line) => Number.parseInt(line, 10))
}

/** Another process that opens the warehouse, says its process's id, and holds it until it is killed or told to end. */
function holder(): { pid: Promise<number>; kill(): void; end(): Promise<number | null> } {
  const script = `
    import { openWarehouse } from ${JSON.stringify(new URL('embedded/warehouse.ts', root).href)}
    import { systemRuntime } from ${JSON.stringify(new URL('core/runtime.ts', root).href)}
    import { silentLogger } from ${JSON.stringify(new URL('core/logger.ts', root).href)}
    const warehouse = await openWarehouse({ dataDir: ${JSON.stringify(dataDir)}, runtime: systemRuntime, logger: silentLogger })
    process.stdout.write(warehouse.pid + '\\n')
    process.stdin.once('data', async () => { await warehouse.close(); process.exit(0) })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve))
  return {
    pid: new Promise((resolve, reject) => {
      child.stdout.once('data', (chunk) => resolve(Number(String(chunk))))
      child.once('exit', () => reject(new Error('it ended')))
    }),
    kill: () => void child.kill('SIGKILL'),
    end() {
      child.stdin.write('end\n')
      return exit
    },
  }
}

test('it answers as ClickHouse does: results, formats, parameters, settings, exceptions', async () => {
  const it = await warehouse()
  expect(await post(it, 'SELECT 1 AS x FORMAT JSONEachRow')).toEqual({
    status: 200,
    code: undefined,
    text: '{"x":1}\n',
  })
  expect((await post(it, 'SELECT 1 AS x, 2 AS y')).text).toBe('1\t2\n')
  expect((await post(it, 'SELECT 1 AS x', { search: { default_format: 'CSVWithNames' } })).text).toBe('"x"\n1\n')
  expect((await post(it, 'SELECT {a:String} AS x', { search: { param_a: `it's \\ "so"` } })).text).toBe(
    `it\\'s \\\\ "so"\n`,
  )
  expect((await post(it, "SELECT getSetting('log_comment')", { search: { log_comment: `a'b` } })).text).toBe(`a\\'b\n`)
  expect(await post(it, 'SELECT * FROM nowhere')).toMatchObject({
    status: 404,
    code: '60',
    text: expect.stringContaining('(UNKNOWN_TABLE)'),
  })
  expect(await post(it, 'SELEC 1')).toMatchObject({
    status: 400,
    code: '62',
    text: expect.stringMatching(/^Code: 62\. DB::Exception: Syntax error/),
  })
  expect(await post(it, 'SELECT throwIf(number = 3) FROM numbers(9) FORMAT JSONEachRow')).toMatchObject({ code: '395' })
})

test('what a statement sets is not there for the next', async () => {
  const it = await warehouse()
  await post(it, 'CREATE DATABASE other')
  const leaving = [
    () => post(it, 'SELECT 1', { search: { log_comment: 'left behind', max_threads: '1', database: 'other' } }),
    () => post(it, "SET log_comment = 'left behind'"),
    () => post(it, 'USE other'),
    () => post(it, 'SELECT {p:String}', { search: { param_p: 'left behind' } }),
    () => post(it, 'SELECT * FROM nowhere', { search: { log_comment: 'left behind', database: 'other' } }),
  ]
  for (const leave of leaving) {
    await leave()
    expect((await post(it, "SELECT getSetting('log_comment'), currentDatabase()")).text).toBe('\tdefault\n')
    expect((await post(it, 'SELECT {p:String}')).code).toBe('456')
    await Promise.all(Array.from({ length: 6 }, leave))
    expect((await post(it, "SELECT getSetting('log_comment'), currentDatabase()")).text).toBe('\tdefault\n')
  }
})

test('an insert takes its body in any encoding and format, into any database', async () => {
  const it = await warehouse()
  await post(it, 'CREATE DATABASE other')
  await post(it, 'CREATE TABLE other.t (a String, `odd-name` Int64) ENGINE = MergeTree ORDER BY tuple()')
  const into = (sql: string, body: string | Buffer, encoding?: string) =>
    post(it, sql, { search: { database: 'other', async_insert: '0' }, body, ...(encoding ? { encoding } : {}) })
  const rows = '["x",1]\n["y;\\n\'",2]\n'
  for (const [body, encoding] of [[rows], [gzipSync(rows), 'gzip'], [zstdCompressSync(rows), 'zstd']] as const)
    expect(await into('INSERT INTO t FORMAT JSONCompactEachRow', body, encoding)).toMatchObject({ status: 200 })
  expect(await into('INSERT INTO `t` (`a`) FORMAT CSV', '"z"\n')).toMatchObject({ status: 200 })
  expect(await into('INSERT INTO t (a, `odd-name`) FORMAT JSONEachRow', '{"a":"o;","odd-name":7}\n')).toMatchObject({
    status: 200,
  })
  expect(await into('INSERT INTO t VALUES', "('v', 8)")).toMatchObject({ status: 200 })
  expect(await into('INSERT INTO t FORMAT JSONCompactEachRow', '["x","no"]\n')).toMatchObject({
    status: 400,
    code: '27',
  })
  expect(await into('INSERT INTO t FORMAT JSONCompactEachRow', '["x",1]', 'br')).toMatchObject({ code: '432' })
  const counts = await post(it, "SELECT count(), countIf(a = 'y;\\n\\''), sum(`odd-name`) FROM other.t")
  expect(counts.text).toBe('9\t3\t24\n')
})

test('a large result comes in parts, and one that is given up leaves room for others', async () => {
  const it = await warehouse()
  const all = await post(it, 'SELECT number FROM numbers(1000000) FORMAT TabSeparated')
  expect(all.text.length).toBe(6_888_890)
  for (let n = 0; n < 12; n++)
    await new Promise<void>((resolve) => {
      const sent = request({ socketPath: it.socketPath, path: '/', method: 'POST', agent: false }, (response) => {
        response.once('data', () => {
          response.destroy()
          resolve()
        })
      })
      sent.end('SELECT number FROM numbers(100000000) FORMAT TabSeparated')
    })
  expect((await post(it, 'SELECT 1')).text).toBe('1\n')
})

test('long queries keep no insert waiting', async () => {
  const it = await warehouse()
  await post(it, 'CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY tuple()')
  const long = 'SELECT count() FROM numbers(300000000) WHERE cityHash64(number) % 7 = 3 SETTINGS max_threads = 1'
  const started = performance.now()
  let first: number | undefined
  const answered = () => (first ??= performance.now() - started)
  const queries = Array.from({ length: 18 }, () => post(it, long).then(answered))
  await systemRuntime.sleep(200)
  expect(await post(it, 'INSERT INTO t FORMAT JSONCompactEachRow', { body: '["x"]\n' })).toMatchObject({ status: 200 })
  const inserted = performance.now() - started
  await Promise.all(queries)
  expect(inserted).toBeLessThan(first! / 2)
}, 60_000)

test('several in one process share one, and it is gone with the last', async () => {
  const [one, two] = await Promise.all([warehouse(), warehouse()])
  const pid = one.pid!
  expect(two.pid).toBe(pid)
  await one.close()
  expect((await post(two, 'SELECT 1')).text).toBe('1\n')
  await two.close()
  await until(() => !alive(pid), 2_000)
  expect(existsSync(two.socketPath)).toBe(false)
})

test('processes that start at the same time share one', async () => {
  const holders = [holder(), holder(), holder(), holder()]
  const pids = await Promise.all(holders.map((each) => each.pid))
  expect(new Set(pids).size).toBe(1)
  expect(await Promise.all(holders.map((each) => each.end()))).toEqual([0, 0, 0, 0])
  await until(() => !alive(pids[0]!), 3_000)
}, 60_000)

test('one that opens while the last lets go gets one of its own', async () => {
  for (let n = 0; n < 5; n++) {
    const first = await warehouse()
    const closing = first.close()
    const second = await warehouse()
    expect((await post(second, 'SELECT 1')).text).toBe('1\n')
    await closing
    await second.close()
  }
}, 60_000)

test('a holder that is killed holds it no longer', async () => {
  const dead = holder()
  const pid = await dead.pid
  const it = await warehouse()
  expect(it.pid).toBe(pid)
  dead.kill()
  await systemRuntime.sleep(1_500)
  expect((await post(it, 'SELECT 1')).text).toBe('1\n')
  const other = holder()
  await other.pid
  await it.close()
  other.kill()
  await until(() => !alive(pid), 5_000)
}, 60_000)

test('a process that is killed leaves none behind, whatever it was doing', async () => {
  const busy = holder()
  const pid = await busy.pid
  const query = 'SELECT count() FROM numbers(100000000000) WHERE cityHash64(number) % 7 = 3'
  const asked = request({ socketPath: join(dataDir, 'warehouse.sock'), path: '/', method: 'POST', agent: false })
  asked.on('error', () => undefined).end(query)
  await systemRuntime.sleep(300)
  busy.kill()
  asked.destroy()
  await until(() => !alive(pid), 14_000)

  // Before it could say that it wants one, too: the lock is free again when the process is gone.
  for (const wait of [150, 300, 450]) {
    const young = holder()
    young.pid.catch(() => undefined)
    await systemRuntime.sleep(wait)
    young.kill()
  }
  // A process that was begun just now is not yet called so.
  await systemRuntime.sleep(500)
  await until(async () => (await running()).length === 0, 10_000)
}, 60_000)

test('many that use one start one successor when it is killed', async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => warehouse()))
  const before = all[0]!.pid!
  process.kill(before, 'SIGKILL')
  const seen = new Set<number>()
  await until(async () => {
    for (const pid of await running()) if (pid !== before) seen.add(pid)
    return all.every(({ pid }) => pid !== undefined && pid !== before)
  })
  expect(seen.size).toBe(1)
})

test('it is started again when it was killed, with all that it had', async () => {
  const it = await warehouse()
  await post(it, 'CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY tuple()')
  await post(it, 'INSERT INTO t FORMAT JSONCompactEachRow', { body: '["x"]\n' })
  const before = it.pid!
  process.kill(before, 'SIGKILL')
  await until(() => it.pid !== undefined && it.pid !== before)
  expect((await post(it, 'SELECT count() FROM t')).text).toBe('1\n')
})

test('a socket that was removed is made again', async () => {
  const it = await warehouse()
  await rm(it.socketPath)
  const other = holder()
  expect(await other.pid).toBe(it.pid)
  expect((await post(it, 'SELECT 1')).text).toBe('1\n')
  expect(await other.end()).toBe(0)
})

test('a data directory with a long path has its socket elsewhere, in a folder of its own', async () => {
  const deep = join(dataDir, 'a'.repeat(60), 'b'.repeat(60))
  const it = await warehouse(deep)
  expect(Buffer.byteLength(it.socketPath)).toBeLessThanOrEqual(100)
  expect((await post(it, 'SELECT 1')).text).toBe('1\n')
  await it.close()
  expect(await readdir(deep)).not.toContain('warehouse.sock')
})

test('without chdb it says what to install', async () => {
  const elsewhere = join(dataDir, 'elsewhere')
  await mkdir(elsewhere)
  for (const folder of ['core', 'embedded'])
    await cp(new URL(folder, root), join(elsewhere, folder), { recursive: true })
  await writeFile(join(elsewhere, 'package.json'), '{"type":"module"}')
  const script = `
    import { openWarehouse } from './embedded/warehouse.ts'
    await openWarehouse({ dataDir: '.', runtime: {}, logger: {} }).catch((error) => console.log(error.code, error.message))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    cwd: elsewhere,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  expect(await text(child.stdout)).toMatch(/^SINK_FAILED .*npm install chdb/)
})

test('a folder that cannot be opened is an error that says where to look', async () => {
  await writeFile(join(dataDir, 'warehouse'), 'not a folder')
  await expect(warehouse()).rejects.toMatchObject({
    code: 'SINK_FAILED',
    message: expect.stringContaining('warehouse.log'),
  })
})
