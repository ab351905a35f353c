import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Partitioners, type PartitionMetadata } from 'kafkajs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DriverName } from '../../kafka/driver.ts'
import type { KafkaRecord } from '../../kafka/records.ts'
import { type KafkaSinkOptions, kafka } from '../../sinks/kafka.ts'
import { kafkaSource } from '../../sources/kafka.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'
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
  let topics = 0
  beforeAll(async () => {
    broker = await startKafka()
  })
  afterAll(async () => {
    await broker?.remove()
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
        down: async () => {
          stopped = true
          await broker.kill()
        },
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
})
