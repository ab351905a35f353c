import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Admin, Producer } from 'kafkajs'
import { systemRuntime } from '../../core/runtime.ts'
import { inspectRedis } from '../../state/redis-inspect.ts'
import { chance } from '../simulation/chance.ts'
import { end, options, whole } from '../support/arguments.ts'
import { ROOT } from '../support/project.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { faultProxy } from '../support/servers/proxy.ts'
import { startRedis } from '../support/servers/redis-server.ts'
import { compare } from './kills.ts'

export interface SystemsOptions {
  /** Faults of all kinds, before everything is left in peace. */
  readonly faults: number
  /** The events that go through Kafka: JSON lines, some of which may be repeats or malformed. */
  readonly file: string
  /** Workers that are at work at once, apart from those that only come and go. @default 2 */
  readonly workers?: number
  readonly partitions?: number
  /** Chooses faults and moments. @default 1 */
  readonly seed?: number
}

export interface SystemsResult {
  readonly faults: number
  /** Faults by their kind. */
  readonly kinds: Readonly<Record<string, number>>
  readonly lost: number
  readonly doubled: number
  /** What was left to read in the end. */
  readonly lag: number
  /** The longest time in which a partition had something to read and did not move, seconds. */
  readonly longestStall: number
  readonly problems: readonly string[]
  readonly seconds: number
}

const TOPIC = 'shop.events'
const PIPELINE = 'cart-abandonment'
const FILE = join(ROOT, 'pipelines/cart-abandonment.ts')
const sleep = (ms: number) => systemRuntime.sleep(ms)
/** Milliseconds within which a worker that is asked to end has ended, and within which the last one has read all. */
const DRAIN = 90_000
const REST = 180_000
/** Workers at once, those that come and go included. */
const CROWD = 5

/**
 * The cart job through a real Kafka and a state in a real Redis, while workers are killed, stopped, brought in and sent
 * away, the broker is started anew, and networks cut, delay and lose what is said; then everything is left in peace, and
 * what came of it is compared with a plain computation over the file.
 */
export async function disturbSystems(
  { faults, file, workers = 2, partitions = 8, seed = 1 }: SystemsOptions,
  say: (text: string) => void = () => undefined,
): Promise<SystemsResult> {
  const began = performance.now()
  const random = chance(seed)
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  const dataDir = mkdtempSync(join(tmpdir(), 'millrace-systems-'))
  const nowhere = { port: 1 }
  const [toKafka, toRedis] = [await faultProxy(nowhere), await faultProxy(nowhere)]
  const kafka = await startKafka({ advertised: toKafka.port })
  const redis = await startRedis()
  toKafka.target({ port: kafka.port })
  toRedis.target({ port: redis.port })
  const crew = new Crew({
    dataDir,
    env: { KAFKA_BROKERS: `127.0.0.1:${toKafka.port}`, KAFKA_SESSION_TIMEOUT: '3s' },
    store: `redis://127.0.0.1:${toRedis.port}?timeout=2s`,
  })
  const kinds: Record<string, number> = {}
  const happened = (kind: string) => {
    kinds[kind] = (kinds[kind] ?? 0) + 1
  }
  try {
    await kafka.topic(TOPIC, partitions)
    const watch = new Stalls(await kafka.admin(), partitions)
    watch.start()
    const producer = await kafka.producer()
    for (let i = 0; i < workers; i++) crew.start()
    let produced = 0
    const network = () => toKafka.counts.injected + toRedis.counts.injected
    const total = () => network() + Object.values(kinds).reduce((sum, n) => sum + n, 0)
    toKafka.random({ seed, rate: 0.03, delay: 100 })
    toRedis.random({ seed: seed + 1, rate: 0.05, delay: 100 })
    for (let turn = 0; total() < faults; turn++) {
      await sleep(100 + random.next() * 500)
      // there is something to read all the time, to the last fault
      const due = Math.ceil((lines.length * (total() + 1)) / faults)
      if (due > produced) await produce(producer, lines.slice(produced, due))
      produced = Math.max(produced, due)
      await oneFault(random.next(), { crew, kafka, toKafka, toRedis, random, turn, happened })
      say(`${total()} of ${faults} faults, ${network()} of them on the network`)
    }
    if (produced < lines.length) await produce(producer, lines.slice(produced))
    toKafka.calm()
    toRedis.calm()
    const all = total()
    for (const [proxy, counts] of [['kafka', toKafka.counts] as const, ['redis', toRedis.counts] as const])
      for (const [kind, count] of Object.entries(counts.faults)) if (count > 0) kinds[`${proxy} ${kind}`] = count
    await crew.drain()
    const last = crew.start('--until-end')
    const code = await within(REST, last, 'has not read all')
    const lag = await watch.stop()
    const inspector = await inspectRedis({ url: redis.url, env: {} })
    const letters = await inspector.deadLetters.count()
    await inspector.close()
    const found = await compare(dataDir, lines, letters)
    const problems = [
      ...crew.problems,
      ...found.problems,
      ...(code === 0 ? [] : [`the last worker: ${code}\n${last.log()}`]),
    ]
    return {
      faults: all,
      kinds,
      lost: found.lost,
      doubled: found.doubled,
      lag,
      longestStall: Math.round(watch.longest / 100) / 10,
      problems,
      seconds: Math.round((performance.now() - began) / 1_000),
    }
  } finally {
    await crew.kill()
    await Promise.all([toKafka.close(), toRedis.close()])
    await kafka.remove()
    await redis.remove()
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 })
  }
}

interface Scene {
  readonly crew: Crew
  readonly kafka: KafkaBroker
  readonly toKafka: Awaited<ReturnType<typeof faultProxy>>
  readonly toRedis: Awaited<ReturnType<typeof faultProxy>>
  readonly random: ReturnType<typeof chance>
  readonly turn: number
  happened(kind: string): void
}

async function oneFault(draw: number, { crew, kafka, toKafka, toRedis, random, turn, happened }: Scene): Promise<void> {
  const worker = crew.any(random.next())
  // once in a while, and not at first
  if (turn % 25 === 12) {
    happened('broker restart')
    await kafka.kill()
    await kafka.start()
    return
  }
  if (draw < 0.25 && worker) {
    happened('worker killed')
    worker.kill('SIGKILL')
    await sleep(random.next() * 500)
    crew.start()
  } else if (draw < 0.45 && worker) {
    happened('worker stopped')
    worker.kill('SIGSTOP')
    void sleep(500 + random.next() * 5_500).then(() => worker.kill('SIGCONT'))
  } else if (draw < 0.6 && crew.size < CROWD) {
    happened('worker came and went')
    const guest = crew.start()
    void sleep(500 + random.next() * 3_000).then(() => guest.kill('SIGTERM'))
  } else if (draw < 0.8) {
    happened('redis connections cut')
    toRedis.cut()
  } else {
    happened('kafka connections cut')
    toKafka.cut()
  }
}

interface Member {
  readonly ended: Promise<number | null>
  log(): string
  kill(signal: NodeJS.Signals): void
}

/** The worker processes. */
class Crew {
  readonly problems: string[] = []
  private readonly members = new Map<ChildProcess, Member>()
  private readonly how: { dataDir: string; env: Record<string, string>; store: string }

  constructor(how: { dataDir: string; env: Record<string, string>; store: string }) {
    this.how = how
  }

  start(...more: string[]): Member {
    const { dataDir, env, store } = this.how
    const standIns = ['clickhouse', 'redis', 'esp'].flatMap((system) => ['--stand-in', system])
    const child = spawn(
      process.execPath,
      [join(ROOT, 'bin/millrace.js'), 'run', FILE, '--data', dataDir, '--store', store, ...standIns, '--json', ...more],
      { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] },
    )
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-20_000)
    })
    const ended = new Promise<number | null>((resolve) =>
      child.on('close', (code, signal) => {
        this.members.delete(child)
        // one that is asked to end before it has begun to listen ends by the signal itself
        if (code !== 0 && code !== 143 && signal !== 'SIGKILL' && signal !== 'SIGTERM')
          this.problems.push(`a worker ended with ${code ?? signal}:\n${log.slice(-3_000)}`)
        resolve(code)
      }),
    )
    const member: Member = {
      ended,
      log: () => log.slice(-3_000),
      kill(signal) {
        if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      },
    }
    this.members.set(child, member)
    return member
  }

  get size(): number {
    return this.members.size
  }

  any(draw: number): Member | undefined {
    const all = [...this.members.values()]
    return all[Math.floor(draw * all.length)]
  }

  async drain(): Promise<void> {
    const all = [...this.members.values()]
    for (const member of all) {
      member.kill('SIGCONT')
      member.kill('SIGTERM')
    }
    await Promise.all(
      all.map(async (member) => {
        const code = await within(DRAIN, member, 'was asked to end, and has not')
        if (typeof code === 'string') this.problems.push(`a worker ${code}:\n${member.log()}`)
      }),
    )
  }

  async kill(): Promise<void> {
    const all = [...this.members.values()]
    for (const member of all) member.kill('SIGKILL')
    await Promise.all(all.map(({ ended }) => ended))
  }
}

/** What a worker ends with; one that takes too long is killed, and that is said instead. */
async function within(ms: number, member: Member, what: string): Promise<number | string | null> {
  const late = new AbortController()
  const code = await Promise.race([
    member.ended,
    systemRuntime.sleep(ms, late.signal).then(() => `${what} after ${ms / 1_000} s`),
  ])
  late.abort('in time')
  if (typeof code === 'string') member.kill('SIGKILL')
  return code
}

/** Brings lines into the topic in their order, by visitor. */
async function produce(producer: Producer, lines: readonly string[]): Promise<void> {
  await producer.send({ topic: TOPIC, messages: lines.map((value) => ({ key: visitorOf(value), value })) })
}

function visitorOf(line: string): string | null {
  try {
    return String(JSON.parse(line).visitorId)
  } catch {
    return null
  }
}

/** Watches how long partitions with something to read do not move. */
class Stalls {
  longest = 0
  private readonly admin: Admin
  private readonly partitions: number
  private readonly since = new Map<number, { offset: number; at: number }>()
  private stopped = false
  private watching: Promise<void> | undefined

  constructor(admin: Admin, partitions: number) {
    this.admin = admin
    this.partitions = partitions
  }

  start(): void {
    this.watching = this.watch()
  }

  /** Ends it, and gives what is left to read. */
  async stop(): Promise<number> {
    this.stopped = true
    await this.watching
    const found = await this.look()
    return found.reduce((sum, { high, offset }) => sum + high - offset, 0)
  }

  private async watch(): Promise<void> {
    while (!this.stopped) {
      await sleep(250)
      const now = performance.now()
      for (const { partition, high, offset } of await this.look().catch(() => [])) {
        const last = this.since.get(partition)
        if (!last || offset !== last.offset || high <= offset) this.since.set(partition, { offset, at: now })
        else this.longest = Math.max(this.longest, now - last.at)
      }
    }
  }

  private async look(): Promise<{ partition: number; high: number; offset: number }[]> {
    const [group] = await this.admin.fetchOffsets({ groupId: PIPELINE, topics: [TOPIC] })
    const marks = await this.admin.fetchTopicOffsets(TOPIC)
    return Array.from({ length: this.partitions }, (_, partition) => {
      const mark = marks.find((each) => each.partition === partition)!
      const committed = Number(group?.partitions.find((each) => each.partition === partition)?.offset ?? -1)
      return { partition, high: Number(mark.high), offset: committed < 0 ? Number(mark.low) : committed }
    })
  }
}

/**
 * `npm run faults:systems`: disturbs a real Kafka, a real Redis and the workers between them.
 *
 *     -- --faults 500         so many
 *     -- --file events.jsonl  events to read: those of the cart pipeline, a line each
 *     -- --workers 2          at once
 *     -- --seed 7             other faults and moments
 *     -- --json               nothing but one line at the end
 */
if (import.meta.main) {
  const given = options({
    faults: { type: 'string', default: '500' },
    file: { type: 'string', default: join(ROOT, '../shared/data/retailrocket_dirty.jsonl') },
    workers: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  })
  const result = await disturbSystems(
    {
      faults: whole('faults', given.faults, 1),
      file: given.file,
      workers: whole('workers', given.workers, 1),
      seed: whole('seed', given.seed, 0),
    },
    given.json ? undefined : console.log,
  ).catch((error) => end(error instanceof Error ? (error.stack ?? error.message) : String(error)))
  console.log(JSON.stringify(result))
  process.exitCode = result.lost + result.doubled + result.lag + result.problems.length === 0 ? 0 : 1
}
