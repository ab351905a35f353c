import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Partitioners, type PartitionMetadata } from 'kafkajs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DriverName } from '../../kafka/driver.ts'
import type { KafkaRecord } from '../../kafka/records.ts'
import { type KafkaSinkOptions, kafka } from '../../sinks/kafka.ts'
import { kafkaSource } from '../../sources/kafka.ts'
import { freePort } from '../support/servers/child-server.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'
import { type FaultProxy, faultProxy } from '../support/servers/proxy.ts'
import { connectorContext, sinkSuite, staged } from '../support/sink-suite.ts'
import { readAll } from '../support/source-suite.ts'

interface Row {
  readonly id: string
  readonly n: number
}
const rows = (count: number): Row[] => Array.from({ length: count }, (_, n) => ({ id: `id-${n % 7}`, n }))
const never = () => new AbortController().signal

need('kafka')('the sink on a real Kafka', () => {
  const root = mkdtempSync(join(tmpdir(), 'millrace-kafka-sink-'))
  let broker: KafkaBroker
  let proxy: FaultProxy
  let topics = 0
  beforeAll(async () => {
    const port = await freePort()
    proxy = await faultProxy({ port })
    broker = await startKafka({ port, advertised: proxy.port })
  })
  afterAll(async () => {
    await broker?.remove()
    await proxy?.close()
    rmSync(root, { recursive: true, force: true })
  })
  const context = (driver: DriverName = 'kafkajs') =>
    connectorContext(root, { output: 'out', env: { KAFKA_BROKERS: broker.brokers, KAFKA_DRIVER: driver } })
  const made = async (partitions = 3, settings = {}) => {
    const topic = `topic-${++topics}`
    await broker.topic(topic, partitions, settings)
    return topic
  }
  async function held(topic: string): Promise<{ partition: number; record: KafkaRecord; value: unknown }[]> {
    const open = await kafkaSource({ topic }).open(context(), { untilEnd: true })
    const all = []
    for (let partition = 0; partition < open.partitions; partition++) {
      const reader = await open.reader(partition, undefined)
      for (const record of await readAll(reader))
        all.push({ partition, record: record as KafkaRecord, value: open.decode(record) })
      await reader.close()
    }
    await open.close()
    return all
  }

  for (const driver of ['kafkajs', 'platformatic'] as const) {
    sinkSuite<Row>(`kafka (${driver})`, async () => {
      const topic = await made()
      let stopped = false
      return {
        sink: () => kafka<Row>({ topic, key: (row) => row.id }),
        context: context(driver),
        rows,
        read: async () => (await held(topic)).map(({ value }) => value),
        unencodable: { id: 'x', toJSON: () => undefined } as unknown as Row,
        // its end is the same for both, and takes a while
        ...(driver === 'kafkajs' && {
          down: async () => {
            stopped = true
            await broker.kill()
          },
        }),
        close: async () => {
          if (stopped) await broker.start()
        },
      }
    })
  }

  async function delivered(options: Omit<KafkaSinkOptions<Row>, 'topic'>, some: readonly Row[], partitions = 3) {
    const topic = await made(partitions)
    const open = await kafka<Row>({ topic, ...options }).open(context())
    expect(await open.deliver(staged(open, some), never())).toMatchObject({ kind: 'applied' })
    await open.close()
    return held(topic)
  }

  test('records have their key, value, headers and time, by the partitions that Java’s clients choose', async () => {
    const all = await delivered({ key: (row) => row.id, headers: (row) => ({ n: `${row.n}` }) }, rows(70), 4)
    expect(all).toHaveLength(70)
    const java = Partitioners.DefaultPartitioner()
    const partitionMetadata = [0, 1, 2, 3].map((partitionId) => ({ partitionId }) as PartitionMetadata)
    for (const { partition, record, value } of all) {
      const row = value as Row
      expect(record.key).toBe(row.id)
      expect(record.headers).toMatchObject({ n: `${row.n}`, 'mr-from': 'suite/main/0/out' })
      expect(Math.abs(record.timestamp - Date.now())).toBeLessThan(60_000)
      expect(partition).toBe(java({ topic: '', partitionMetadata, message: { key: record.key, value: null } }))
    }
    for (let id = 0; id < 7; id++) {
      const mine = all.filter(({ record }) => record.key === `id-${id}`).map(({ value }) => (value as Row).n)
      expect(mine).toEqual(Array.from({ length: 10 }, (_, n) => n * 7 + id))
    }
  })

  /** Of a request to Kafka, whether it brings records. */
  const produces = (first: Buffer) => first.length >= 6 && first.readInt16BE(4) === 0
  const sink = (topic: string, options = {}) => kafka<Row>({ topic, key: (row) => row.id, ...options })
  const numbers = async (topic: string) =>
    (await held(topic)).map(({ value }) => (value as Row).n).sort((a, b) => a - b)
  const upTo = (count: number) => Array.from({ length: count }, (_, n) => n)

  for (const driver of ['kafkajs', 'platformatic'] as const) {
    test(`a reply that was lost is an unknown outcome, and what is sent again is there once (${driver})`, async () => {
      const topic = await made()
      const open = await sink(topic).open(context(driver))
      const delivery = staged(open, rows(500))
      proxy.next({ kind: 'loseReply' }, { when: produces })
      expect(await open.deliver(delivery, never())).toMatchObject({ kind: 'unknown' })
      expect(await open.deliver({ ...delivery, attempt: 2, afterUnknown: true }, never())).toMatchObject({
        kind: 'applied',
      })
      proxy.next({ kind: 'cutRequest', after: 3_000 }, { when: produces })
      const next = staged(open, rows(500), { name: 'next', first: 500 })
      expect(await open.deliver(next, never())).toMatchObject({ kind: 'unknown' })
      expect(await open.deliver({ ...next, attempt: 2, afterUnknown: true }, never())).toMatchObject({
        kind: 'applied',
      })
      await open.close()
      expect(await numbers(topic)).toEqual([...upTo(500), ...upTo(500)].sort((a, b) => a - b))
    })
  }

  test('a worker that dies after it has sent leaves a batch that the next one completes, whatever was stored of it', async () => {
    const topic = await made()
    const first = await sink(topic).open(context())
    await first.attach?.('suite/main/0', undefined)
    const one = staged(first, rows(50), { name: 'one' })
    const applied = await first.deliver(one, never())
    const two = staged(first, rows(50), { name: 'two', first: 50 })
    // the answer to this one is not heard of
    await first.deliver(two, never())
    await first.close()
    const { receipt } = applied as { receipt: string }
    for (const stored of [receipt, undefined, receipt]) {
      const open = await sink(topic).open(context())
      await open.attach?.('suite/main/0', stored)
      const again = { ...two, attempt: 1, afterUnknown: true }
      expect(await open.deliver(again, never())).toMatchObject({ kind: 'applied' })
      await open.close()
      expect(await held(topic)).toHaveLength(100)
    }
  })

  test('a batch of which only a part was sent is completed by the rest alone', async () => {
    const topic = await made(1)
    const whole = rows(40)
    const dead = await sink(topic).open(context())
    await dead.deliver(staged(dead, whole.slice(0, 15), { name: 'all' }), never())
    await dead.close()
    const open = await sink(topic).open(context())
    expect(await open.deliver({ ...staged(open, whole, { name: 'all' }), afterUnknown: true }, never())).toMatchObject({
      kind: 'applied',
    })
    await open.close()
    expect((await held(topic)).map(({ value }) => (value as Row).n)).toEqual(upTo(40))
  })

  test('batches that a former life sent as one are completed one by one, in whatever partitions their rows are', async () => {
    for (const arrived of [120, 70, 0]) {
      const topic = await made(3)
      const all = rows(120)
      const dead = await sink(topic).open(context())
      // what is missing was lost on its way: requests end at the boundaries of partitions, and may do so anywhere
      if (arrived > 0) await dead.deliver(staged(dead, all.slice(0, arrived), { name: 'group' }), never())
      await dead.close()
      const open = await sink(topic).open(context())
      await open.attach?.('suite/main/0', undefined)
      // the first has rows in one of the partitions only
      const parts = [0, 1, 40, 90, 120]
      for (const [i, first] of parts.slice(0, -1).entries()) {
        const batch = staged(open, all.slice(first, parts[i + 1]), { name: `batch-${i}`, first })
        expect(await open.deliver({ ...batch, afterUnknown: true }, never())).toMatchObject({ kind: 'applied' })
      }
      await open.close()
      const numbers = (await held(topic)).map(({ value }) => (value as Row).n)
      expect(numbers.sort((a, b) => a - b)).toEqual(upTo(120))
    }
  })

  test('what two writers of one name wrote is told apart from a repeat by its reader alone', async () => {
    const topic = await made(1)
    const zombie = await sink(topic).open(context())
    const open = await sink(topic).open(context())
    for (const one of [open, zombie]) await one.deliver(staged(one, rows(3)), never())
    await Promise.all([open.close(), zombie.close()])
    const all = await held(topic)
    expect(all).toHaveLength(6)
    const written = all.map(({ record }) => `${record.writer!.name} ${record.writer!.sequence}`)
    expect(new Set(written).size).toBe(3)
    expect(written.slice(0, 3)).toEqual(written.slice(3))
  })

  test('a row that the topic will not take is set aside alone, and its neighbours arrive', async () => {
    const topic = await made(2, { 'max.message.bytes': '20000' })
    const some = rows(60).map((row) => ({
      ...row,
      text: row.n === 17 || row.n === 40 ? 'x'.repeat(30_000) : 'y'.repeat(600),
    }))
    const open = await kafka<Row>({ topic, key: (row) => row.id }).open(context())
    const outcome = await open.deliver(staged(open, some), never())
    await open.close()
    expect(outcome).toMatchObject({ kind: 'applied' })
    const { rejected = [] } = outcome as { rejected?: { row: number; reason: string }[] }
    expect(rejected.map(({ row }) => row).sort()).toEqual([17, 40])
    expect(rejected[0]!.reason).toMatch(/MESSAGE_TOO_LARGE/)
    expect(await numbers(topic)).toEqual(upTo(60).filter((n) => n !== 17 && n !== 40))
  })

  test('batches are packed with every codec, values may be tombstones, and keys may need escapes', async () => {
    const strange = ['a\tb', '"quoted"', 'grün', 'back\\slash', '']
    for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const) {
      const all = await delivered(
        { compression, key: (row) => strange[row.n % 5]!, value: (row) => (row.n % 3 ? row.n : null) },
        rows(30),
      )
      expect(all.map(({ value }) => value).filter((value) => value === null)).toHaveLength(10)
      expect(new Set(all.map(({ record }) => record.key))).toEqual(new Set(strange))
    }
    const keyless = await delivered({ key: () => null }, rows(10))
    expect(keyless.map(({ record }) => record.key)).toEqual(Array(10).fill(null))
    expect(new Set(keyless.map(({ partition }) => partition)).size).toBe(1)
  })

  test('a topic that is not there is an error, or is made when asked; where no brokers are named, the log stands in', async () => {
    await expect(sink('nowhere').open(context())).rejects.toMatchObject({ code: 'NOT_FOUND' })
    const topic = `topic-${++topics}`
    await (await sink(topic, { create: { partitions: 2 } }).open(context())).close()
    expect(await held(topic)).toEqual([])
    const open = await sink('orders').open(connectorContext(root, { output: 'out' }))
    expect(open.standIn).toMatch(/embedded log in .*logs\/orders$/)
    await open.close()
  })

  test.each([
    [{ compression: 'brotli' }, /compression must be one of none, gzip, snappy, lz4, zstd/],
    [{ key: 'id' }, /key must be a function of the row/],
    [{ headers: {} }, /headers must be a function/],
    [{ topic: '../x' }, /topic.*'\.\.\/x'/],
    [{ brokers: '' }, /brokers must be like/],
  ])('wrong options are refused when the pipeline is built: %o', (options, message) => {
    expect(() => kafka({ topic: 'a', ...options } as never)).toThrow(message)
  })
})
