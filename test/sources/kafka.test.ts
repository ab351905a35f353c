import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kafka } from 'kafkajs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DriverName } from '../../kafka/driver.ts'
import type { KafkaRecord } from '../../kafka/records.ts'
import { type KafkaOptions, kafkaSource } from '../../sources/kafka.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { KAFKA } from '../support/servers/maven.ts'
import { need } from '../support/servers/need.ts'
import { connectorContext } from '../support/sink-suite.ts'
import { after, readAll, type SourceUnderTest, sourceSuite } from '../support/source-suite.ts'

const TEXTS: readonly (readonly string[])[] = [
  ['{"n":1}', '{"n":"grün ☂ 𝄞"}', 'not JSON', '[]', ...Array.from({ length: 40 }, (_, n) => `{"n":${n}}`)],
  ['{"other":1}', 'null'],
]

need('kafka')('the source on a real Kafka', () => {
  const root = mkdtempSync(join(tmpdir(), 'millrace-kafka-source-'))
  let broker: KafkaBroker
  let topics = 0
  beforeAll(async () => {
    broker = await startKafka()
  })
  afterAll(async () => {
    await broker?.remove()
    rmSync(root, { recursive: true, force: true })
  })

  const named = () => `topic-${++topics}`
  const context = (driver: DriverName = 'kafkajs') =>
    connectorContext(root, { env: { KAFKA_BROKERS: broker.brokers, KAFKA_DRIVER: driver } })
  const send = async (topic: string, partition: number, values: readonly (string | Buffer | null)[]) => {
    const producer = await broker.producer()
    await producer.send({ topic, messages: values.map((value) => ({ partition, value })) })
  }
  const opened = (
    options: KafkaOptions,
    { untilEnd = true, driver }: { untilEnd?: boolean; driver?: DriverName } = {},
  ) => kafkaSource(options).open(context(driver), { untilEnd })

  const system = (driver: DriverName) => async (): Promise<SourceUnderTest> => {
    const topic = named()
    await broker.topic(topic, TEXTS.length)
    const texts = TEXTS.map((partition) => [...partition])
    for (const [partition, values] of texts.entries()) await send(topic, partition, values)
    const again = async (values: readonly string[]) => {
      const admin = await broker.admin()
      await admin.deleteTopics({ topics: [topic] })
      await expect.poll(() => admin.listTopics(), { timeout: 20_000 }).not.toContain(topic)
      await broker.topic(topic, TEXTS.length)
      await send(topic, 0, values)
    }
    return {
      source: () => kafkaSource({ topic }),
      context: context(driver),
      records: () => texts.map((partition) => partition.map((text) => Buffer.from(text))),
      values: () => texts[0]!.map((text) => (text.startsWith('not') ? new Error(text) : JSON.parse(text))),
      grow: async () => {
        await send(topic, 0, ['{"grown":true}'])
        texts[0]!.push('{"grown":true}')
      },
      change: () => again(['{"n":2}', ...texts[0]!.slice(1)]),
      cut: () => again(texts[0]!.slice(0, -1)),
      close: async () => undefined,
    }
  }
  for (const driver of ['kafkajs', 'platformatic'] as const) sourceSuite(`kafka (${driver})`, system(driver))

  test('a topic that is not there is an error, or is made when asked', async () => {
    const topic = named()
    await expect(opened({ topic })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(`there is no topic '${topic}'`),
    })
    const open = await opened({ topic, create: { partitions: 3 } })
    expect(open.partitions).toBe(3)
    const reader = await open.reader(2, undefined)
    expect(await readAll(reader)).toEqual([])
    await reader.close()
    await open.close()
  })

  const all = async (options: KafkaOptions, partition = 0, driver?: DriverName) => {
    const open = await opened(options, driver ? { driver } : {})
    const reader = await open.reader(partition, undefined)
    try {
      const records = (await readAll(reader)) as KafkaRecord[]
      return { records, values: records.map((record) => open.decode(record)), open }
    } finally {
      await reader.close()
      await open.close()
    }
  }

  test('keys, headers and times come along, and a record without a value is null', async () => {
    const topic = named()
    await broker.topic(topic)
    const producer = await broker.producer()
    const timestamp = '1700000000123'
    await producer.send({
      topic,
      messages: [
        { key: 'grün', value: '1', headers: { one: 'eins', two: 'zwei' }, timestamp },
        { key: 'b', value: null, timestamp: String(Number(timestamp) + 86_400_000 * 365) },
        { value: Buffer.from([0x22, 0xff, 0x22]), timestamp },
      ],
    })
    const open = await opened({ topic })
    const reader = await open.reader(0, undefined)
    const [first, second, third] = (await readAll(reader)) as KafkaRecord[]
    expect(first).toMatchObject({ key: 'grün', headers: { one: 'eins', two: 'zwei' }, timestamp: Number(timestamp) })
    expect(second).toMatchObject({
      key: 'b',
      value: null,
      headers: {},
      timestamp: Number(timestamp) + 86_400_000 * 365,
    })
    expect([open.decode(first!), open.decode(second!)]).toEqual([1, null])
    expect(second!.bytes()).toHaveLength(0)
    expect(third!.key).toBeNull()
    expect(() => open.decode(third!)).toThrow(/record 2 is not UTF-8/)
    await reader.close()
    await open.close()
  })

  test('every codec of Java’s own client is read, by both drivers', async () => {
    const codecs = ['gzip', 'snappy', 'lz4', 'zstd']
    const topic = named()
    await broker.topic(topic, codecs.length)
    const texts = Array.from({ length: 200 }, (_, n) => `{"n":${n},"text":"${'grün '.repeat(n % 9)}"}`)
    await Promise.all(codecs.map((codec) => produceWithJava(broker, topic, codec, texts)))
    for (const driver of ['kafkajs', 'platformatic'] as const) {
      const values: unknown[] = []
      for (let partition = 0; partition < codecs.length; partition++)
        values.push(
          ...(await all({ topic }, partition, driver)).records.map((record) => Buffer.from(record.bytes()).toString()),
        )
      expect(values.sort()).toEqual(codecs.flatMap(() => texts).sort())
    }
  })

  test('what a transaction took back is not read, and the holes that it leaves hold nothing up', async () => {
    const topic = named()
    await broker.topic(topic)
    const kafka = new Kafka({ brokers: [broker.brokers], logLevel: 0, retry: { initialRetryTime: 50, retries: 20 } })
    const producer = kafka.producer({ transactionalId: topic, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (const [value, keep] of [
      ['1', true],
      ['2', false],
      ['3', true],
      ['4', false],
    ] as const) {
      const transaction = await producer.transaction()
      await transaction.send({ topic, messages: [{ value }, { value }] })
      await (keep ? transaction.commit() : transaction.abort())
    }
    await producer.disconnect()
    const { values, records } = await all({ topic })
    expect(values).toEqual([1, 1, 3, 3])
    for (const [i, record] of records.entries()) {
      const open = await opened({ topic })
      const reader = await open.reader(0, after(record))
      expect((await readAll(reader)).map((rest) => open.decode(rest))).toEqual(values.slice(i + 1))
      expect(await reader.read({ records: 1, bytes: 1 })).toBeNull()
      expect(await reader.lag()).toBe(0)
      await reader.close()
      await open.close()
    }
  })

  test('a position that retention has overtaken stops with a message', async () => {
    const topic = named()
    await broker.topic(topic)
    await send(topic, 0, ['1', '2', '3', '4'])
    const { records } = await all({ topic })
    await (await broker.admin()).deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '3' }] })
    const open = await opened({ topic }, { untilEnd: false })
    await expect(open.reader(0, after(records[0]!))).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringMatching(/the records from 1 to 2 have not been read, and are gone/),
    })
    const reader = await open.reader(0, after(records[2]!))
    expect((await readAll(reader)).map((record) => open.decode(record))).toEqual([4])
    await reader.close()
    await open.close()
    expect((await all({ topic })).values).toEqual([4])
  })

  test('retention that overtakes a reader at work stops it', async () => {
    const topic = named()
    await broker.topic(topic)
    const text = JSON.stringify('x'.repeat(500_000))
    for (let n = 0; n < 12; n++) await send(topic, 0, [text])
    const open = await opened({ topic }, { untilEnd: false })
    const reader = await open.reader(0, undefined)
    const [first] = (await reader.read({ records: 1, bytes: 1 }))!
    expect(first!.position).toBe(0)
    await (await broker.admin()).deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '12' }] })
    await expect(readAll(reader)).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringMatching(/have not been read, and are gone/),
    })
    await reader.close()
    await open.close()
  })

  test('records of a megabyte are read one by one, and in the company of small ones', async () => {
    const topic = named()
    await broker.topic(topic, 1, { 'max.message.bytes': '4000000' })
    const large = JSON.stringify('x'.repeat(1_500_000))
    for (const value of ['1', large, '2', large]) await send(topic, 0, [value])
    const { values } = await all({ topic })
    expect(values.map((value) => (typeof value === 'string' ? value.length : value))).toEqual([
      1, 1_500_000, 2, 1_500_000,
    ])
  })

  test('it begins at the end, at a time, or at offsets where nothing is stored', async () => {
    const topic = named()
    await broker.topic(topic, 2)
    const producer = await broker.producer()
    for (let n = 0; n < 5; n++)
      await producer.send({
        topic,
        messages: [{ partition: 0, value: `${n}`, timestamp: String(1_700_000_000_000 + n * 1_000) }],
      })
    expect((await all({ topic, from: 'latest' })).values).toEqual([])
    expect((await all({ topic, from: new Date(1_700_000_002_500) })).values).toEqual([3, 4])
    expect((await all({ topic, from: new Date(1_800_000_000_000) })).values).toEqual([])
    expect((await all({ topic, from: { 0: 4 } })).values).toEqual([4])
    expect((await all({ topic, from: { 1: 0 } })).values).toEqual([0, 1, 2, 3, 4])
    await expect(all({ topic, from: { 0: 6 } })).rejects.toThrow(/from says offset 6, but its offsets go from 0 to 5/)
  })

  test('a reader outlives the death of the broker, and says nothing of a head that it cannot see', {
    timeout: 120_000,
  }, async () => {
    for (const driver of ['kafkajs', 'platformatic'] as const) {
      const topic = named()
      await broker.topic(topic)
      await send(topic, 0, ['1'])
      const open = await opened({ topic }, { untilEnd: false, driver })
      const reader = await open.reader(0, undefined)
      expect(await readAll(reader)).toHaveLength(1)
      const more = reader.more(new AbortController().signal)
      await broker.kill()
      await more
      const next = reader.read({ records: 10, bytes: 1_000 })
      await broker.start()
      await expect
        .poll(
          () =>
            send(topic, 0, ['2']).then(
              () => true,
              () => false,
            ),
          { timeout: 40_000 },
        )
        .toBe(true)
      const records = await next
      const rest =
        records!.length > 0 ? records! : await reader.more(new AbortController().signal).then(() => readAll(reader))
      // a client that is not sure sends it again
      expect(new Set(rest.map((record) => open.decode(record)))).toEqual(new Set([2]))
      await reader.close()
      await open.close()
    }
  })

  test.each([
    [{ brokers: 'nowhere' }, /brokers must be like 'kafka-1:9092,kafka-2:9092', got 'nowhere'/],
    [{ driver: 'librdkafka' }, /driver must be 'kafkajs' or 'platformatic'/],
    [{ from: 'now' }, /from must be 'earliest', 'latest', a Date, or offsets like/],
    [{ from: { a: 1 } }, /from must be/],
    [{ create: { partitions: 0 } }, /create must be like \{ partitions: 8, replication: 3 \}/],
    [{ group: '' }, /group must be a name/],
    [{ sessionTimeout: '0s' }, /sessionTimeout must be/],
    [{ sasl: { mechanism: 'gssapi' } }, /mechanism must be 'plain'/],
    [{ sasl: { mechanism: 'plain', username: 'a' } }, /plain needs a password/],
    [{ sasl: { mechanism: 'oauthbearer' } }, /oauthbearer needs a token/],
    [{ tls: 'yes' }, /tls must be true or options/],
  ])('wrong options are refused when the pipeline is built: %o', (options, message) => {
    expect(() => kafkaSource({ topic: 'a', ...options } as never)).toThrow(message)
    expect(() => kafkaSource({ topic: 'a', ...options } as never)).toThrow(
      expect.objectContaining({ code: 'BAD_OPTION' }),
    )
  })
})

/** Java's console producer: lines of its standard input, in batches of one codec. */
async function produceWithJava(
  broker: KafkaBroker,
  topic: string,
  codec: string,
  texts: readonly string[],
): Promise<void> {
  const args = ['--bootstrap-server', broker.brokers, '--topic', topic, '--compression-codec', codec]
  const child = spawn(
    'java',
    ['-Xmx256m', '-XX:TieredStopAtLevel=1', '-cp', KAFKA.classPath, 'org.apache.kafka.tools.ConsoleProducer', ...args],
    {
      stdio: ['pipe', 'ignore', 'ignore'],
    },
  )
  child.stdin.end(`${texts.join('\n')}\n`)
  const [code] = await once(child, 'close')
  expect(code).toBe(0)
}
