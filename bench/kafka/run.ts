import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { end } from '../../test/support/arguments.ts'
import { startKafka } from '../../test/support/servers/kafka-broker.ts'
import { KAFKA } from '../../test/support/servers/maven.ts'
import { startRedis } from '../../test/support/servers/redis-server.ts'
import { eventsFile } from '../events.ts'
import { type Child, STREAMS, startJava, startNode, until } from './child.ts'
import { inTopics, inWarehouse, type Outputs } from './outputs.ts'
import { type Use, useOf } from './use.ts'
import type { BenchWorkerOptions } from './worker.ts'

/**
 * `npm run bench:kafka`: the cart job on one broker, beside Kafka Streams and a consumer that only counts. `--json` prints
 * one line. What is measured and how: bench/README.md.
 */
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    events: { type: 'string', default: '1000000' },
    sizes: { type: 'string', default: '200,1024' },
    rounds: { type: 'string', default: '1' },
    cases: { type: 'string', default: '' },
    latency: { type: 'string', default: '20' },
    rate: { type: 'string', default: '' },
    profile: { type: 'boolean', default: false },
  },
})
const PARTITIONS = 8
/** Seconds that a job may take to come back after kill -9. */
const RECOVERY = 120
/**
 * Seconds of load that latency leaves out, in which programs are compiled as they run: before a worker's own figures of the
 * last minute or two say nothing of its start any more, and before a topic is watched.
 */
const WARM = { own: 120, topic: 45 }
const say = (text: string) => void (values.json || console.log(text))
const root = mkdtempSync(join(tmpdir(), 'millrace-bench-kafka-run-'))
let made = 0

interface Quantiles {
  readonly p50: number | null
  readonly p99: number | null
}

/** What a program of the bench says that it has done. */
interface Done {
  readonly read: number
  readonly events?: number
  readonly carts?: number
  readonly dead?: number
  readonly staged?: number
  readonly freshness?: Quantiles
}

/** What a case came to. */
interface Figures {
  readonly eventsPerSecond: number
  readonly cpuSecondsPerMillion: number
  readonly brokerCpuSecondsPerMillion: number
  readonly warehouseCpuSecondsPerMillion?: number
  readonly memoryMB: number
  readonly outputs?: Outputs
}

/** A way to do the job: starts its programs, each with a folder and a group of its own. */
interface Case {
  readonly name: string
  readonly topics: readonly string[]
  start(at: { topic: string; group: string; folder: string }): Promise<readonly Child<Done>[]>
  /** What it wrote, as its systems have it. */
  readonly outputs?: (group: string, folder: string) => Promise<Outputs>
}

/** Whether the group's offsets say that all was read and committed. */
async function committed(group: string, topic: string, total: number): Promise<boolean> {
  const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  return offsets!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0) >= total
}

const raw: Case = {
  name: 'raw consumer',
  topics: [],
  start: async ({ topic, group }) => [startNode('raw-consumer.ts', [broker.brokers, topic, group])],
}

const millrace = (sink: 'kafka' | 'clickhouse', workers: number): Case => ({
  name: `millrace, Kafka to ${sink === 'kafka' ? 'Kafka' : 'ClickHouse'}, ${workers} ${workers === 1 ? 'worker' : 'workers'}`,
  topics: sink === 'kafka' ? ['events', 'carts'] : [],
  outputs: (group, folder) => (sink === 'kafka' ? inTopics(broker.brokers, group) : inWarehouse(folder)),
  start: async ({ topic, group, folder }) =>
    Array.from({ length: workers }, () => {
      const options: BenchWorkerOptions = {
        brokers: broker.brokers,
        topic,
        group,
        sink,
        dataDir: folder,
        ...(workers === 1 ? {} : { store: `${redis.url}?prefix=${group}` }),
      }
      const flags = values.profile ? ['--cpu-prof', `--cpu-prof-dir=bench-profile-${group}`] : []
      return startNode<Done>('worker.ts', [JSON.stringify(options)], false, flags)
    }),
})

const streams: Case = {
  name: 'Kafka Streams, exactly_once_v2, RocksDB, 2 threads',
  topics: ['events', 'carts', 'dead'],
  start: async ({ topic, group, folder }) => [startJava('CartStreams', [broker.brokers, topic, group, folder, '2'])],
  outputs: (group) => inTopics(broker.brokers, group),
}

const CASES: Readonly<Record<string, Case>> = {
  raw,
  'clickhouse-1': millrace('clickhouse', 1),
  'clickhouse-2': millrace('clickhouse', 2),
  'kafka-1': millrace('kafka', 1),
  'kafka-2': millrace('kafka', 2),
  streams,
}
const wanted = values.cases === '' ? Object.keys(CASES) : values.cases.split(',')
const unknown = wanted.find((name) => !(name in CASES))
if (unknown !== undefined) end(`there is no case "${unknown}". There are: ${Object.keys(CASES).join(', ')}`)

for (const jars of [KAFKA, STREAMS]) await jars.fetch()
// the settings of one that lives for long
const broker = await startKafka({ jvm: ['-Xmx1g'] })
const admin = await broker.admin()
const redis = await startRedis()

/** Runs a case in a folder and under a name of its own. */
async function running<T>(
  { start, topics }: Case,
  topic: string,
  use: (
    programs: readonly Child<Done>[],
    group: string,
    again: () => Promise<readonly Child<Done>[]>,
    folder: string,
  ) => Promise<T>,
): Promise<T> {
  const group = `bench-${++made}`
  const folder = join(root, group)
  for (const name of topics) await broker.topic(`${group}.${name}`, PARTITIONS)
  const all: Child<Done>[] = []
  const begin = async () => {
    const programs = await start({ topic, group, folder })
    all.push(...programs)
    return programs
  }
  try {
    return await use(await begin(), group, begin, folder)
  } finally {
    // A profile is written by a program that ends by itself.
    await Promise.all(all.map((program) => (values.profile ? program.stop() : program.kill())))
    if (topics.length > 0)
      await admin.deleteTopics({ topics: topics.map((name) => `${group}.${name}`) }).catch(() => undefined)
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

const sumOf = (programs: readonly Child<Done>[], name: keyof Done) =>
  programs.reduce((sum, { last }) => sum + Number(last?.[name] ?? 0), 0)
const PROGRESS = ['read', 'events', 'carts', 'staged'] as const
const WAREHOUSE = 'warehouse-process'

/** Throughput, processor time and memory, from the first record that was read to the last that was answered for. */
async function throughput(of: Case, topic: string, total: number): Promise<Figures> {
  return running(of, topic, async (programs, group, _, folder) => {
    const spent = () => {
      const own = programs.map(({ pid }) => useOf(pid, { apart: WAREHOUSE }))
      const warehouse = programs.map(({ pid }) => useOf(pid, { only: WAREHOUSE }))
      const sum = (uses: readonly Use[], name: keyof Use) => uses.reduce((all, use) => all + use[name], 0)
      return {
        own: sum(own, 'cpuSeconds'),
        memory: sum(own, 'memoryMB'),
        warehouse: sum(warehouse, 'cpuSeconds'),
        broker: useOf(broker.pid!).cpuSeconds,
      }
    }
    await until(() => sumOf(programs, 'read') > 0 || undefined, programs)
    const already = sumOf(programs, 'read')
    const began = performance.now()
    const before = spent()
    let seen = ''
    let moved = began
    await until(async () => {
      const now = JSON.stringify(PROGRESS.map((name) => sumOf(programs, name)))
      if (now !== seen) moved = performance.now()
      seen = now
      if (sumOf(programs, 'read') < total || sumOf(programs, 'staged') > 0) return undefined
      return of === raw || (await committed(group, topic, total)) || undefined
    }, programs)
    // Offsets of a group may follow what they tell of; of Kafka Streams they are the commit itself.
    const seconds = ((of === streams ? performance.now() : moved) - began) / 1_000
    const after = spent()
    const perMillion = (name: 'own' | 'warehouse' | 'broker') =>
      Number(((after[name] - before[name]) / ((total - already) / 1e6)).toFixed(2))
    return {
      eventsPerSecond: Math.round((total - already) / seconds),
      cpuSecondsPerMillion: perMillion('own'),
      brokerCpuSecondsPerMillion: perMillion('broker'),
      ...(after.warehouse > 0 ? { warehouseCpuSecondsPerMillion: perMillion('warehouse') } : {}),
      memoryMB: after.memory,
      ...(of.outputs ? { outputs: await of.outputs(group, folder) } : {}),
    }
  })
}

/** Milliseconds from the making of an event, at a rate; and how long a job into Kafka stands after kill -9. */
interface Delay {
  readonly rate: number
  /** Of the programs alone, while it lasted. */
  readonly cpuSecondsPerMillion: number
  /** To the sink's answer, as a worker of ours says itself. */
  readonly answered?: Quantiles
  /** To a reader of the topic. */
  readonly read?: Quantiles
  readonly recoverySeconds?: number
}

interface Seen {
  readonly now: number
  readonly newest: number
  readonly ages: readonly number[]
}

async function delay(of: Case, file: string, bytes: number, rate: number, seconds: number): Promise<Delay> {
  const topic = `live-${++made}`
  await broker.topic(topic, PARTITIONS)
  return running(of, topic, async (programs, group, again) => {
    const intoKafka = of.topics.length > 0
    const watch = intoKafka ? startNode<Seen>('watch-topic.ts', [broker.brokers, `${group}.events`], true) : undefined
    const load = startJava<Done>(
      'ShopLoad',
      [
        broker.brokers,
        topic,
        String(PARTITIONS),
        file,
        String(bytes),
        String(rate),
        String(seconds + (intoKafka ? WARM.topic + RECOVERY : WARM.own)),
      ],
      '2g',
    )
    try {
      await until(() => sumOf(programs, 'read') > rate || undefined, programs)
      if (!watch) {
        // The worker's own: from the event's time, which is that of its making, to the sink's answer.
        await sleep(WARM.own * 1_000)
        const cpuSecondsPerMillion = await cost(programs, seconds)
        await load.ended
        return { rate, cpuSecondsPerMillion, answered: programs[0]!.last!.freshness! }
      }
      await sleep(WARM.topic * 1_000)
      const cpuSecondsPerMillion = await cost(programs, seconds)
      const ages = watch.lines.slice(-seconds * 10).flatMap(({ ages }) => ages)
      const { freshness: answered } = programs[0]!.last!
      const killed = Date.now()
      await Promise.all(programs.map((program) => program.kill()))
      const next = await again()
      const back = await until(
        () => watch.lines.find(({ now, newest }) => now > killed + 500 && newest > killed && now - newest < 1_000),
        next,
        RECOVERY,
      ).catch(() => undefined)
      return {
        rate,
        cpuSecondsPerMillion,
        ...(answered ? { answered } : {}),
        read: { p50: quantile(ages, 0.5), p99: quantile(ages, 0.99) },
        ...(back ? { recoverySeconds: (back.now - killed) / 1_000 } : {}),
      }
    } finally {
      await Promise.all([load.kill(), watch?.kill()])
    }
  })
}

/** CPU seconds a million events, over so many seconds. */
async function cost(programs: readonly Child<Done>[], seconds: number): Promise<number> {
  const now = () => ({
    cpu: programs.reduce((sum, { pid }) => sum + useOf(pid, { apart: WAREHOUSE }).cpuSeconds, 0),
    read: sumOf(programs, 'read'),
  })
  const before = now()
  await sleep(seconds * 1_000)
  const after = now()
  return Number(((after.cpu - before.cpu) / ((after.read - before.read) / 1e6)).toFixed(2))
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

function quantile(numbers: readonly number[], q: number): number | null {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? null
}

function median(all: readonly Figures[]): Figures {
  return [...all].sort((a, b) => a.eventsPerSecond - b.eventsPerSecond)[all.length >> 1]!
}

try {
  const file = eventsFile(Number(values.events))
  const report: Record<string, Record<string, Figures & { latency?: Delay }>> = {}
  for (const bytes of values.sizes.split(',').map(Number)) {
    const topic = `shop-${bytes}`
    await broker.topic(topic, PARTITIONS)
    const filled = startJava<{ sent: number; seconds: number }>('ShopLoad', [
      broker.brokers,
      topic,
      String(PARTITIONS),
      file,
      String(bytes),
    ])
    await filled.ended
    const { sent, seconds } = filled.last!
    say(`${bytes} B: ${sent} events produced, ${Math.round(sent / seconds)}/s`)
    const rounds: Record<string, Figures[]> = {}
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const name of wanted) {
        const figures = await throughput(CASES[name]!, topic, sent)
        ;(rounds[name] ??= []).push(figures)
        say(`${bytes} B, ${CASES[name]!.name}: ${JSON.stringify(figures)}`)
      }
    }
    report[bytes] = Object.fromEntries(Object.entries(rounds).map(([name, all]) => [name, median(all)]))
    if (Number(values.latency) === 0) continue
    for (const name of wanted.filter((name) => name !== 'raw')) {
      const { eventsPerSecond } = report[bytes]![name]!
      const rate = Number(values.rate) || Math.round(eventsPerSecond / 2)
      const latency = await delay(CASES[name]!, file, bytes, rate, Number(values.latency))
      report[bytes]![name] = { ...report[bytes]![name]!, latency }
      say(`${bytes} B, ${CASES[name]!.name}, at ${rate} events/s: ${JSON.stringify(latency)}`)
    }
  }
  if (values.json) console.log(JSON.stringify(report))
} finally {
  await redis.remove()
  await broker.remove()
  rmSync(root, { recursive: true, force: true, maxRetries: 5 })
}
process.exit()
