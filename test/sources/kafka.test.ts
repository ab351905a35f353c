import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DriverName } from '../../kafka/driver.ts'
import { type KafkaOptions, kafkaSource } from '../../sources/kafka.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'
import { connectorContext } from '../support/sink-suite.ts'
import { readAll, type SourceUnderTest, sourceSuite } from '../support/source-suite.ts'

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
      await expect.poll(() => admin.listTopics()).not.toContain(topic)
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
})
