import { setTimeout as sleep } from 'node:timers/promises'
import { silentLogger } from '../core/logger.ts'
import { createMetrics } from '../core/metrics.ts'
import { systemRuntime } from '../core/runtime.ts'
import { sharing } from '../core/share.ts'
import type { RowMeta } from '../core/sink.ts'
import type { ConnectorContext } from '../core/source.ts'
import { kafka } from '../sinks/kafka.ts'
import { kafkaSource } from '../sources/kafka.ts'
import type { DriverRun } from './kafka-drivers.ts'

/** One driver on one topic of 8 partitions: prints a `DriverRun`. */
const [driver, brokers, topic, count] = process.argv.slice(2) as [string, string, string, string]
const records = Number(count)
const BATCH = 10_000
const LANES = 4

const context = (): ConnectorContext => ({
  pipeline: `bench-${topic}`,
  stage: 'main',
  output: 'out',
  dataDir: '/nowhere',
  env: { KAFKA_BROKERS: brokers, KAFKA_DRIVER: driver },
  live: false,
  runtime: systemRuntime,
  logger: silentLogger,
  metrics: createMetrics(),
  share: sharing(),
})

async function timed(work: () => Promise<unknown>): Promise<{ perSecond: number; cpu: number }> {
  const cpu = process.cpuUsage()
  const began = performance.now()
  await work()
  const { user, system } = process.cpuUsage(cpu)
  return { perSecond: records / ((performance.now() - began) / 1_000), cpu: (user + system) / records }
}

const event = (n: number) => ({
  eventId: `e${n}`,
  visitorId: `v${(n * 7919) % 50_000}`,
  type: 'view',
  occurredAt: 1_700_000_000_000 + n,
  item: { id: `i${n % 1_000}`, price: 12.5, currency: 'EUR' },
  page: '/shop/shoes/1234567890',
  ref: 'mail',
})

async function produce(): Promise<DriverRun['produce']> {
  const open = await kafka<ReturnType<typeof event>>({ topic, key: (e) => e.visitorId }).open(context())
  const encoder = open.encoder('')
  let sequence = 0
  const meta = { key: '', time: 0, cause: '', now: () => 0, version: () => ++sequence } satisfies RowMeta
  const bodies = Array.from({ length: records / BATCH }, (_, b) =>
    Buffer.from(Array.from({ length: BATCH }, (_, n) => encoder.row(event(b * BATCH + n), meta)).join('')),
  )
  const measured = await timed(() =>
    Promise.all(
      Array.from({ length: LANES }, async (_, lane) => {
        for (let b = lane; b < bodies.length; b += LANES) {
          const delivery = {
            name: `${b}`,
            task: `bench/main/${lane}`,
            head: encoder.head,
            body: bodies[b]!,
            rows: BATCH,
          }
          const outcome = await open.deliver(
            { ...delivery, stagedAt: Date.now(), attempt: 1, afterUnknown: false },
            new AbortController().signal,
          )
          if (outcome.kind !== 'applied') throw new Error(`${outcome.kind}: ${JSON.stringify(outcome)}`)
        }
      }),
    ),
  )
  await open.close()
  return measured
}

/** Reads all, and parses each record. */
async function read(): Promise<DriverRun['read']> {
  const open = await kafkaSource({ topic }).open(context(), { untilEnd: true })
  const measured = await timed(() =>
    Promise.all(
      Array.from({ length: 8 }, async (_, partition) => {
        const reader = await open.reader(partition, undefined)
        for (let some = await reader.read(LIMIT); some !== null; some = await reader.read(LIMIT))
          for (const record of some) open.decode(record)
        await reader.close()
      }),
    ),
  )
  await open.close()
  return measured
}
const LIMIT = { records: 10_000, bytes: 1_048_576 }

/** Milliseconds of CPU that a second costs while eight partitions are watched and nothing comes. */
async function idle(): Promise<number> {
  const { open, leave } = await member(() => undefined)
  const readers = await Promise.all(Array.from({ length: 8 }, (_, partition) => open.reader(partition, undefined)))
  const stop = new AbortController()
  for (const reader of readers) {
    while ((await reader.read({ records: 1e6, bytes: 1e9 }))!.length > 0);
    void reader.more(stop.signal)
  }
  await sleep(1_000)
  const cpu = process.cpuUsage()
  await sleep(5_000)
  const { user, system } = process.cpuUsage(cpu)
  stop.abort()
  await Promise.all(readers.map((reader) => reader.close()))
  await leave()
  return (user + system) / 5_000
}

async function member(assigned: (partitions: readonly number[]) => void) {
  const open = await kafkaSource({ topic }).open(context(), { untilEnd: false })
  const { promise: first, resolve } = Promise.withResolvers<void>()
  await open.group!.join({
    rebalancing: () => undefined,
    async assigned(partitions) {
      assigned(partitions)
      resolve()
    },
    failed: (error) => {
      throw error
    },
  })
  await first
  return {
    open,
    async leave() {
      await open.group!.leave()
      await open.close()
    },
  }
}

/** Milliseconds from a second worker's coming, and its going, until each has its partitions. */
async function rebalance(): Promise<{ joinMs: number; leaveMs: number }> {
  const shares = { first: 0, second: 0 }
  let told: () => void = () => undefined
  const count = (who: keyof typeof shares) => (partitions: readonly number[]) => {
    shares[who] = partitions.length
    told()
  }
  const first = await member(count('first'))
  const until = async (share: number) => {
    while (shares.first !== share || (share < 8 && shares.second !== 8 - share))
      await new Promise<void>((resolve) => (told = resolve))
  }
  const joining = performance.now()
  const second = await member(count('second'))
  await until(4)
  const joinMs = performance.now() - joining
  const leaving = performance.now()
  await Promise.all([second.leave(), until(8)])
  const leaveMs = performance.now() - leaving
  await first.leave()
  return { joinMs, leaveMs }
}

const produced = await produce()
const run: DriverRun = {
  produce: produced,
  read: await read(),
  idleMs: await idle(),
  ...(await rebalance()),
  memoryMB: process.memoryUsage().rss / 1_048_576,
}
console.log(JSON.stringify(run))
