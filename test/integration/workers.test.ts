import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { inspectRedis } from '../../state/redis-inspect.ts'
import { compare, isEvent } from '../faults/kills.ts'
import { place } from '../support/command.ts'
import { until } from '../support/memory-run.ts'
import { ROOT } from '../support/project.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'
import { type RedisServer, startRedis } from '../support/servers/redis-server.ts'

const DATA = join(import.meta.dirname, '../../../shared/data')
const LINES = readFileSync(join(DATA, 'retailrocket_dirty.jsonl'), 'utf8').trimEnd().split('\n')
const FILE = join(ROOT, 'pipelines/cart-abandonment.ts')

need('kafka', 'redis')('several workers on a real Kafka, with their state in a real Redis', () => {
  let kafka: KafkaBroker
  let redis: RedisServer
  const folder = mkdtempSync(join(tmpdir(), 'millrace-workers-'))
  const children = new Set<ChildProcess>()

  beforeAll(async () => {
    kafka = await startKafka()
    redis = await startRedis()
    await kafka.topic('shop.events', 8)
    const producer = await kafka.producer()
    await producer.send({ topic: 'shop.events', messages: LINES.map((value) => ({ key: visitorOf(value), value })) })
  }, 120_000)
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  afterAll(async () => {
    await kafka?.remove()
    await redis?.remove()
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  })

  /** Runs the shipped pipeline, each name with a group, a state and a data directory of its own. */
  function start(name: string, ...options: string[]) {
    const [file = FILE] = options.splice(
      options.findIndex((option) => option.endsWith('.ts')),
      options.some((option) => option.endsWith('.ts')) ? 1 : 0,
    )
    const store = `${redis.url}?prefix=${name}`
    const standIns = ['clickhouse', 'redis', 'esp'].flatMap((system) => ['--stand-in', system])
    const args = ['run', file, '--data', join(folder, name), '--store', store, ...standIns, '--json', ...options]
    const child = spawn(process.execPath, [join(ROOT, 'bin/millrace.js'), ...args], {
      env: { ...process.env, KAFKA_BROKERS: kafka.brokers, KAFKA_GROUP: name },
    })
    children.add(child)
    let [out, err] = ['', '']
    child.stdout.on('data', (data) => {
      out += data
    })
    child.stderr.on('data', (data) => {
      err += data
    })
    const ended = new Promise<number | null>((resolve) =>
      child.on('close', (code) => {
        children.delete(child)
        resolve(code)
      }),
    )
    return { child, ended, out: () => out, err: () => err }
  }

  async function found(name: string) {
    const inspector = await inspectRedis({ url: `${redis.url}?prefix=${name}`, env: {} })
    const letters = await inspector.deadLetters.count()
    await inspector.close()
    return compare(join(folder, name), LINES, letters)
  }

  test.each([1, 2, 4])(
    '%i of them give the same rows, mails and dead letters as one pass over the file',
    async (workers) => {
      const run = start(`of-${workers}`, '--until-end', '--workers', String(workers))
      expect([await run.ended, run.err()]).toEqual([0, expect.anything()])
      expect(await found(`of-${workers}`)).toEqual({ lost: 0, doubled: 0, problems: [] })
      const summary = JSON.parse(run.out().trim().split('\n').at(-1)!)
      expect(summary.pipeline).toBe('cart-abandonment')
      // what a partition had not committed when it changed hands is read again
      expect(summary.read).toBeGreaterThanOrEqual(LINES.length)
      if (workers > 1) expect(summary.workers).toBe(workers)
    },
    120_000,
  )

  test('they are started anew one after the other, one that dies is started again, and a signal drains them all', async () => {
    const run = start('rolling', '--workers', '2')
    const count = (what: RegExp) => run.err().match(what)?.length ?? 0
    await until(() => count(/"msg":"stand-ins:/g) === 2, 60)
    run.child.kill('SIGUSR2')
    await until(() => count(/draining: the epoch under way/g) === 2 && count(/"msg":"stand-ins:/g) === 4, 60)
    const pids = [...run.err().matchAll(/"pid":(\d+),"standIns"/g)].map(([, pid]) => Number(pid))
    process.kill(pids.at(-1)!, 'SIGKILL')
    await until(() => count(/was ended by SIGKILL; it is started again/g) === 1, 60)
    await until(() => count(/"msg":"stand-ins:/g) === 5, 60)
    run.child.kill('SIGTERM')
    expect(await run.ended).toBe(0)
    const last = start('rolling', '--until-end')
    expect(await last.ended).toBe(0)
    expect(await found('rolling')).toEqual({ lost: 0, doubled: 0, problems: [] })
  }, 180_000)

  test('a repartition goes through a topic that two of them share, and that is emptied as it is read', async () => {
    const here = place()
    const name = 'popular'
    here.write(
      'popular.ts',
      `import { pipeline } from 'millrace'
import { dedup, map, repartition, scan } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'
const Event = z.object({ eventId: z.string(), visitorId: z.string(), type: z.enum(['view', 'addtocart', 'transaction']), itemId: z.string(), occurredAt: z.int().positive() })
export const popular = pipeline('${name}', {
  counts: fromKafka({ topic: 'shop.events', schema: Event, key: (e) => e.visitorId, time: (e) => e.occurredAt, lateness: '1m' })
    .pipe(
      dedup({ by: (e) => e.eventId, within: '24h' }),
      repartition((e) => e.itemId, { partitions: 5 }),
      scan({ seed: { n: 0 }, step: ({ n }) => ({ n: n + 1 }), ttl: '400d' }),
      map(({ n }, { key }) => ({ item: key, n })),
    )
    .to(file({ path: ${JSON.stringify(here.path('counts.jsonl'))} })),
})
`,
    )
    const run = start(name, '--workers', '2', here.path('popular.ts'))
    const wanted = new Map<string, number>()
    const seen = new Set<string>()
    for (const line of LINES.filter(isEvent)) {
      const { eventId, itemId } = JSON.parse(line)
      if (seen.has(eventId)) continue
      seen.add(eventId)
      wanted.set(itemId, (wanted.get(itemId) ?? 0) + 1)
    }
    const rows = () =>
      readdirSync(here.folder)
        .filter((name) => /^counts.*jsonl$/.test(name))
        .flatMap((name) => readFileSync(here.path(name), 'utf8').split('\n').filter(Boolean))
    await until(() => rows().length >= 9_382, 60).catch((error) => {
      throw new Error(`${rows().length} rows: ${error.message}\n${run.err()}`)
    })
    const admin = await kafka.admin()
    const low = async () => {
      const marks = await admin.fetchTopicOffsets(`${name}.repartition`)
      return marks.reduce((sum, { low }) => sum + Number(low), 0)
    }
    await until(async () => (await low()) > 5_000, 30)
    run.child.kill('SIGTERM')
    expect([await run.ended, run.err()]).toEqual([0, expect.anything()])
    const last = new Map<string, number>()
    for (const row of rows()) {
      const { item, n } = JSON.parse(row)
      last.set(item, Math.max(n, last.get(item) ?? 0))
    }
    expect(rows()).toHaveLength(9_382)
    expect([...last].sort()).toEqual([...wanted].sort())
    here.remove()
  }, 180_000)

  test('without a store that all reach, or a source that is shared out, they refuse to begin', async () => {
    const alone = spawn(
      process.execPath,
      [join(ROOT, 'bin/millrace.js'), 'run', FILE, '--data', join(folder, 'alone'), '--workers', '2'],
      { env: process.env },
    )
    let err = ''
    alone.stderr.on('data', (data) => {
      err += data
    })
    expect(await new Promise((resolve) => alone.on('close', resolve))).toBe(2)
    expect(err).toContain('they need a store that all of them reach')
  }, 60_000)
})

function visitorOf(line: string): string | null {
  try {
    return String(JSON.parse(line).visitorId)
  } catch {
    return null
  }
}
