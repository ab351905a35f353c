import { MillraceError, messageOf } from '../core/errors.ts'
import type { Logger } from '../core/logger.ts'
import type { Runtime } from '../core/runtime.ts'
import type { ConnectorContext } from '../core/source.ts'
import {
  type Address,
  type Api,
  CREATE_TOPICS,
  DELETE_RECORDS,
  FIND_COORDINATOR,
  LIST_OFFSETS,
  METADATA,
  type TopicMetadata,
} from './apis.ts'
import { loadCodecs } from './compression.ts'
import type { Connection, Driver } from './driver.ts'
import { ERROR, NotConnected, refusal } from './errors.ts'
import { Fetcher } from './fetcher.ts'
import type { ClusterSettings } from './settings.ts'
import { Decoder, Encoder } from './wire.ts'

/** Which of a broker's connections a request takes: what waits on the broker holds up what comes behind it there. */
export type Channel = 'control' | 'group' | `produce ${number}` | `fetch ${number}`

/**
 * Milliseconds: of a connection; of one request, and of one that a broker answers at once: a partition stands still while
 * the answer to such a one is lost; and of all tries of one that may succeed later.
 */
const CONNECT = 10_000
const TIMEOUT = 30_000
const AT_ONCE = 10_000
const PATIENCE = 15_000

/** A topic as the cluster has it now. */
export interface Topic {
  readonly partitions: number
}

/** A Kafka cluster as the connectors of one worker use it together: its connections, and who leads what. */
export class Cluster {
  readonly settings: ClusterSettings
  readonly runtime: Runtime
  readonly logger: Logger
  readonly fetcher: Fetcher
  private readonly connections = new Map<string, Promise<Connection>>()
  private readonly leaders = new Map<string, readonly number[]>()
  private brokers = new Map<number, Address>()
  private id: string | undefined
  private driver: Promise<Driver> | undefined
  private users = 0
  private refreshing: Promise<unknown> | undefined

  constructor(settings: ClusterSettings, { runtime, logger }: ConnectorContext) {
    this.settings = settings
    this.runtime = runtime
    this.logger = logger
    this.fetcher = new Fetcher(this)
  }

  /** What messages call it. */
  get name(): string {
    return `kafka at ${this.settings.brokers.map(({ host, port }) => `${host}:${port}`).join(',')}`
  }

  /** Counts a user in; each of them calls `release` once. */
  retain(): this {
    this.users++
    return this
  }

  /** Counts a user out, and closes the connections behind the last one. */
  async release(): Promise<void> {
    if (--this.users > 0) return
    const open = [...this.connections.values()]
    this.connections.clear()
    await Promise.all(
      open.map((connection) =>
        connection.then(
          (one) => one.close(),
          () => undefined,
        ),
      ),
    )
  }

  /** Closes one connection of every broker. */
  async disconnect(channel: Channel): Promise<void> {
    for (const [name, connection] of this.connections) {
      if (!name.endsWith(` ${channel}`)) continue
      this.connections.delete(name)
      await connection.then(
        (one) => one.close(),
        () => undefined,
      )
    }
  }

  /**
   * Sends one request to one broker.
   *
   * @throws NotConnected when it was not sent; any other error when that is not known
   */
  async send<Q, R>(
    broker: Address,
    channel: Channel,
    api: Api<Q, R>,
    request: Q,
    timeout = timeoutOf(channel),
  ): Promise<R> {
    const body = new Encoder()
    api.write(body, request)
    return this.sendEncoded(broker, channel, api, body.done(), timeout)
  }

  async sendEncoded<Q, R>(
    broker: Address,
    channel: Channel,
    api: Api<Q, R>,
    body: Buffer,
    timeout = timeoutOf(channel),
  ): Promise<R> {
    const connection = await this.connection(broker, channel)
    try {
      return api.read(new Decoder(await connection.send(api, body, timeout)))
    } catch (error) {
      // whatever comes next on it may belong to this request
      await connection.close()
      throw error
    }
  }

  /** The cluster's own name for itself. @throws MillraceError SOURCE_FAILED */
  async clusterId(): Promise<string> {
    if (this.id === undefined) await this.describe([])
    return this.id!
  }

  /** What the cluster says of these topics now. @throws MillraceError SOURCE_FAILED, retriable unless it refuses us */
  async describe(topics: readonly string[]): Promise<readonly TopicMetadata[]> {
    const answer = await this.ask(METADATA, { topics })
    this.brokers = new Map(answer.brokers.map(({ id, host, port }) => [id, { host, port }]))
    this.id = answer.clusterId ?? 'unnamed'
    for (const { topic, partitions } of answer.topics) {
      const leaders: number[] = []
      for (const { partition, leader } of partitions) leaders[partition] = leader
      this.leaders.set(topic, leaders)
    }
    return answer.topics
  }

  /** A topic, or undefined when there is none of this name. @throws MillraceError SOURCE_FAILED */
  async topic(name: string): Promise<Topic | undefined> {
    return this.patiently(async () => {
      const [found] = await this.describe([name])
      if (!found || found.error === ERROR.UNKNOWN_TOPIC_OR_PARTITION) return undefined
      const bad = found.error || found.partitions.find(({ error }) => error === ERROR.LEADER_NOT_AVAILABLE)?.error
      if (bad) throw refusal(`${this.name}: topic '${name}'`, bad)
      return { partitions: found.partitions.length }
    })
  }

  /** Makes a topic; one that is there already stays as it is. @throws MillraceError SOURCE_FAILED */
  async createTopic(
    topic: string,
    partitions: number,
    replication: number,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const [made] = await this.ask(CREATE_TOPICS, { topic, partitions, replication, settings })
    if (made!.error !== 0 && made!.error !== ERROR.TOPIC_ALREADY_EXISTS)
      throw refusal(`${this.name}: topic '${topic}' cannot be made`, made!.error, made!.message)
    // it is there before its leaders are
    await this.patiently(async () => {
      if (!(await this.topic(topic))) throw refusal(`${this.name}: topic '${topic}'`, ERROR.UNKNOWN_TOPIC_OR_PARTITION)
    })
  }

  /** Lets go of the records before an offset. @throws MillraceError */
  async deleteRecords(topic: string, partition: number, before: number): Promise<void> {
    await this.patiently(async () => {
      for (const [broker] of await this.byLeader(topic, [partition])) {
        const [answer] = await this.tell(broker, DELETE_RECORDS, { topic, partition, before })
        if (answer!.error)
          throw this.stale(topic, refusal(`${this.name}: records of '${topic}' ${partition}`, answer!.error))
      }
    })
  }

  /** The first offset of each partition at or behind a time, or an end of it; -1 where nothing is so late. @throws MillraceError */
  async offsets(
    topic: string,
    partitions: readonly number[],
    time: number,
    { committed = true }: { committed?: boolean } = {},
  ): Promise<number[]> {
    return this.patiently(async () => {
      const found = new Map<number, number>()
      for (const [broker, led] of await this.byLeader(topic, partitions)) {
        const asked = [{ topic, partitions: led.map((partition) => ({ partition, time })) }]
        const answer = await this.tell(broker, LIST_OFFSETS, { committed, topics: asked })
        for (const { partition, error, offset } of answer[0]!.partitions) {
          if (error) throw this.stale(topic, refusal(`${this.name}: the offsets of '${topic}' ${partition}`, error))
          found.set(partition, offset)
        }
      }
      return partitions.map((partition) => found.get(partition)!)
    })
  }

  /** The broker that keeps a group. @throws MillraceError SOURCE_FAILED */
  async coordinator(group: string): Promise<Address> {
    const { error, broker } = await this.ask(FIND_COORDINATOR, { group })
    if (error) throw refusal(`${this.name}: group '${group}'`, error)
    return broker
  }

  /** The broker that leads a partition, as far as is known; undefined when nobody does. */
  leader(topic: string, partition: number): Address | undefined {
    const leader = this.leaders.get(topic)?.[partition]
    return leader === undefined ? undefined : this.brokers.get(leader)
  }

  /** Asks anew who leads these topics; callers that come meanwhile get the same answer. */
  async refresh(topics: readonly string[]): Promise<void> {
    this.refreshing ??= this.describe([...new Set([...this.leaders.keys(), ...topics])]).finally(() => {
      this.refreshing = undefined
    })
    await this.refreshing
  }

  /** Tries again what may succeed later, for a while; what reaches nobody only where that is not said to matter. */
  async patiently<R>(work: () => Promise<R>, { reached = false }: { reached?: boolean } = {}): Promise<R> {
    const end = this.runtime.elapsed() + PATIENCE
    for (let wait = 50; ; wait = Math.min(1_000, wait * 2)) {
      try {
        return await work()
      } catch (error) {
        const retriable = error instanceof MillraceError && error.retriable
        if (!retriable || this.runtime.elapsed() + wait > end) throw error
        if (reached && error.cause instanceof NotConnected) throw error
        await this.runtime.sleep(wait)
      }
    }
  }

  /** Asks any broker that answers. @throws MillraceError SOURCE_FAILED */
  async ask<Q, R>(api: Api<Q, R>, request: Q): Promise<R> {
    const known = [...this.brokers.values(), ...this.settings.brokers]
    let failure: unknown
    for (const broker of known) {
      try {
        return await this.send(broker, 'control', api, request)
      } catch (error) {
        failure = error
        if (error instanceof NotConnected && error.final) break
      }
    }
    throw this.unreachable(failure)
  }

  /** A failed request as an error of ours. */
  unreachable(error: unknown): MillraceError {
    if (error instanceof MillraceError) return error
    const final = error instanceof NotConnected && error.final
    return new MillraceError(
      'SOURCE_FAILED',
      `${this.name}: ${messageOf(error)}${final ? '' : '; is it running, and is KAFKA_BROKERS right?'}`,
      {
        cause: error,
        retriable: !final,
      },
    )
  }

  private async tell<Q, R>(broker: Address, api: Api<Q, R>, request: Q): Promise<R> {
    try {
      return await this.send(broker, 'control', api, request)
    } catch (error) {
      this.brokers.clear()
      throw this.unreachable(error)
    }
  }

  private async byLeader(topic: string, partitions: readonly number[]): Promise<Map<Address, number[]>> {
    if (partitions.some((partition) => !this.leader(topic, partition))) await this.refresh([topic])
    const led = new Map<Address, number[]>()
    for (const partition of partitions) {
      const broker = this.leader(topic, partition)
      if (!broker) throw this.stale(topic, refusal(`${this.name}: '${topic}' ${partition}`, ERROR.LEADER_NOT_AVAILABLE))
      led.set(broker, [...(led.get(broker) ?? []), partition])
    }
    return led
  }

  /** Forgets who leads a topic, because it was wrong. */
  private stale(topic: string, error: MillraceError): MillraceError {
    this.leaders.delete(topic)
    return error
  }

  /** A broker that was stopped in its tracks takes connections, and says nothing. */
  private async inTime(connecting: Promise<Connection>, { host, port }: Address): Promise<Connection> {
    const over = new AbortController()
    const late = this.runtime.sleep(CONNECT, over.signal).then(() => undefined)
    try {
      const connection = await Promise.race([connecting, late])
      if (connection) return connection
    } finally {
      over.abort('in time')
    }
    void connecting.then((connection) => connection.close()).catch(() => undefined)
    throw new NotConnected(`${host}:${port} cannot be reached: no answer within ${CONNECT} ms`)
  }

  private async connection(broker: Address, channel: Channel): Promise<Connection> {
    const name = `${broker.host}:${broker.port} ${channel}`
    const known = this.connections.get(name)
    if (known) {
      const connection = await known.catch(() => undefined)
      if (connection?.open) return connection
      if (this.connections.get(name) !== known) return this.connection(broker, channel)
    }
    this.driver ??= loadDriver(this.settings.driver)
    const connecting = this.driver.then((driver) => this.inTime(driver.connect(broker, this.settings), broker))
    this.connections.set(name, connecting)
    try {
      return await connecting
    } catch (error) {
      if (this.connections.get(name) === connecting) this.connections.delete(name)
      throw error
    }
  }
}

function timeoutOf(channel: Channel): number {
  return channel === 'control' ? AT_ONCE : TIMEOUT
}

/** The cluster of these settings, one a worker. */
export function clusterOf(settings: ClusterSettings, context: ConnectorContext): Cluster {
  return context.share(`kafka ${settings.id}`, () => new Cluster(settings, context)).retain()
}

/** A client library takes up to 0.7 s to load: only the one that is used is. */
async function loadDriver(name: ClusterSettings['driver']): Promise<Driver> {
  await loadCodecs()
  if (name === 'kafkajs') return (await import('./kafkajs.ts')).kafkajs
  return (await import('./platformatic.ts')).platformatic
}
