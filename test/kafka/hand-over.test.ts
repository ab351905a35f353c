import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Sink } from '../../core/sink.ts'
import { stream } from '../../core/stream.ts'
import { startWorker, type Worker } from '../../core/worker.ts'
import { kafka } from '../../sinks/kafka.ts'
import { kafkaSource } from '../../sources/kafka.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { anything } from '../support/number-source.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'

const PARTITIONS = 4
/** Milliseconds for which a request is on its way. */
const ON_ITS_WAY = 1_000

need('kafka')('a partition that goes from one worker to another, on a real Kafka', () => {
  let broker: KafkaBroker
  const folder = mkdtempSync(join(tmpdir(), 'millrace-hand-over-'))
  beforeAll(async () => {
    broker = await startKafka()
  })
  afterAll(async () => {
    await broker?.remove()
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  })

  function start(name: string, disk: MemoryDisk, { network = 'fast', untilEnd = false } = {}): Promise<Worker> {
    const to = kafka<any>({ topic: `${name}-out`, create: { partitions: PARTITIONS } })
    const events = stream(kafkaSource({ topic: name, sessionTimeout: '30s' }), {
      schema: anything,
      key: (event: any) => String(event.id),
      time: (event: any) => event.at,
    })
    return startWorker({
      pipeline: pipeline(name, { out: events.to(network === 'slow' ? slow(to) : to) }),
      store: { ...memoryStore({ disk }), shared: true },
      dataDir: folder,
      cache: false,
      env: { KAFKA_BROKERS: broker.brokers },
      runtime: systemRuntime,
      logger: silentLogger,
      metrics: createMetrics(),
      workers: 2,
      untilEnd,
    })
  }

  /** The sink, with requests that nobody can call back while they are on their way. */
  function slow(sink: Sink<any>): Sink<any> {
    return {
      ...sink,
      async open(context) {
        const open = await sink.open(context)
        const never = new AbortController().signal
        return {
          ...open,
          async deliver(delivery, signal) {
            const sent = sleep(ON_ITS_WAY).then(() => open.deliver(delivery, never))
            const { promise: aborted, resolve } = Promise.withResolvers<'aborted'>()
            signal.addEventListener('abort', () => resolve('aborted'), { once: true })
            const outcome = await Promise.race([sent, aborted])
            return outcome === 'aborted' ? { kind: 'unknown', reason: 'it was on its way' } : outcome
          },
        }
      },
    }
  }

  /** What a consumer sees that knows nothing of Millrace's headers. */
  async function plainly(topic: string, count: number): Promise<number[]> {
    const seen: number[] = []
    const consumer = new Kafka({ brokers: [broker.brokers], logLevel: logLevel.NOTHING }).consumer({
      groupId: `plain-${topic}`,
    })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ message }) => void seen.push(JSON.parse(message.value!.toString()).id),
    })
    await expect.poll(() => seen.length, { timeout: 30_000 }).toBeGreaterThanOrEqual(count)
    await sleep(500)
    await consumer.disconnect()
    return seen.sort((a, b) => a - b)
  }

  async function fill(name: string, from: number, to: number): Promise<void> {
    const producer = await broker.producer()
    const messages = Array.from({ length: to - from }, (_, i) => ({
      key: String(from + i),
      value: JSON.stringify({ id: from + i, at: 1_700_000_000_000 + from + i }),
    }))
    await producer.send({ topic: name, messages })
  }

  const assigned = (worker: Worker) => Object.values(worker.status().sources)[0]!.assigned

  test('leaves no row of a request under way twice, for readers who know nothing of Millrace either', {
    timeout: 120_000,
  }, async () => {
    const name = 'moves'
    await broker.topic(name, PARTITIONS)
    const disk = new MemoryDisk()
    const first = await start(name, disk, { network: 'slow' })
    let count = 0
    const filling = new AbortController()
    const filled = (async () => {
      for (; !filling.signal.aborted; count += 20) {
        await fill(name, count, count + 20)
        await sleep(200)
      }
    })()
    await expect.poll(() => assigned(first), { timeout: 20_000 }).toBe(PARTITIONS)
    await sleep(1_000)
    const second = await start(name, disk)
    await expect
      .poll(() => [assigned(first), assigned(second)], { timeout: 20_000, interval: 10 })
      .toEqual([PARTITIONS / 2, PARTITIONS / 2])
    await sleep(1_000)
    filling.abort()
    await filled
    // the test's own producer may send one twice
    const sent = await plainly(name, count)
    const rows = () => first.status().sinks.out!.rows + second.status().sinks.out!.rows
    await expect.poll(rows, { timeout: 40_000 }).toBe(sent.length)
    await Promise.all([first.drain(), second.drain()])
    expect(await plainly(`${name}-out`, sent.length)).toEqual(sent)
  })

  test('is waited for by one that is to end with its input', { timeout: 120_000 }, async () => {
    const name = 'ends'
    await broker.topic(name, PARTITIONS)
    await fill(name, 0, 100)
    const disk = new MemoryDisk()
    const first = await start(name, disk)
    await expect.poll(() => assigned(first), { timeout: 20_000 }).toBe(PARTITIONS)
    const second = await start(name, disk, { untilEnd: true })
    const { sources } = await second.done
    expect(Object.values(sources)[0]!.assigned).toBe(PARTITIONS / 2)
    await first.drain()
    const sent = await plainly(name, 100)
    expect(await plainly(`${name}-out`, sent.length)).toEqual(sent)
  })
})
