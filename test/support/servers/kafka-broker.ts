import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Admin, Kafka, logLevel, type Producer } from 'kafkajs'
import { type Certificate, makeCertificate } from './certificate.ts'
import { type ChildServer, freePort, startServer } from './child-server.ts'
import { KAFKA } from './maven.ts'

export interface KafkaBrokerOptions {
  /** Speaks TLS to clients, with a certificate of its own. */
  readonly tls?: boolean
  /** Wants to know who comes: `app` with the password `secret`, by each of these mechanisms. */
  readonly sasl?: readonly ('PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512' | 'OAUTHBEARER')[]
  /** Lines of server.properties. */
  readonly config?: Readonly<Record<string, string>>
  /** @default one that nobody holds */
  readonly port?: number
  /** Where clients are told to come, in the place of its own port: a proxy's. What the test itself does goes by another. */
  readonly advertised?: number
  /** Settings of its JVM. @default those of one that does not live for long: little memory, less compiling */
  readonly jvm?: readonly string[]
}

/** A real broker of the test's own, its own controller (KRaft), on free ports of the loopback address. */
export interface KafkaBroker {
  readonly port: number
  /** `127.0.0.1:…` */
  readonly brokers: string
  readonly certificate: Certificate | undefined
  /** Of its process, while it runs. */
  readonly pid: number | undefined
  /** kafkajs, for what the test itself does; closed with the broker. Only without TLS and SASL. */
  admin(): Promise<Admin>
  producer(): Promise<Producer>
  /** Makes a topic. */
  topic(name: string, partitions?: number, settings?: Readonly<Record<string, string>>): Promise<void>
  /** Ends it as a power cut of the process would. */
  kill(): Promise<void>
  /** Ends it as an administrator would. */
  stop(): Promise<void>
  /** Starts it again on its ports, with its data. */
  start(): Promise<void>
  /** Stops it in its tracks until `resume`. */
  pause(): void
  resume(): void
  /** Ends it, and removes its folder. */
  remove(): Promise<void>
}

const SHORT_LIVED = ['-Xmx768m', '-Xms256m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']
/** With a line in the log when it is up. */
const JAVA = [
  ...['-cp', KAFKA.classPath],
  ...['defaultLogLevel=warn', 'log.kafka.server.KafkaRaftServer=info'].map((set) => `-Dorg.slf4j.simpleLogger.${set}`),
]

export async function startKafka(options: KafkaBrokerOptions = {}): Promise<KafkaBroker> {
  const { tls = false, sasl = [], config = {}, jvm = SHORT_LIVED } = options
  const folder = mkdtempSync(join(tmpdir(), 'millrace-kafka-'))
  const certificate = tls ? makeCertificate(folder) : undefined
  const port = options.port ?? (await freePort())
  const controller = await freePort()
  const own = options.advertised === undefined ? port : await freePort()
  const protocol = `${sasl.length > 0 ? 'SASL_' : ''}${tls ? 'SSL' : 'PLAINTEXT'}`
  const settings: Record<string, string> = {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    listeners: `CLIENTS://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}${own === port ? '' : `,TEST://127.0.0.1:${own}`}`,
    'advertised.listeners': `CLIENTS://127.0.0.1:${options.advertised ?? port}${own === port ? '' : `,TEST://127.0.0.1:${own}`}`,
    'inter.broker.listener.name': 'CLIENTS',
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': `CLIENTS:${protocol},CONTROLLER:PLAINTEXT,TEST:PLAINTEXT`,
    'log.dirs': join(folder, 'data'),
    'auto.create.topics.enable': 'false',
    'group.initial.rebalance.delay.ms': '0',
    'offsets.topic.replication.factor': '1',
    'offsets.topic.num.partitions': '2',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'transaction.state.log.num.partitions': '2',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    // how long a killed broker is not let in again
    'broker.session.timeout.ms': '1500',
    'broker.heartbeat.interval.ms': '300',
    // records of tests are often of long ago
    'log.retention.ms': '-1',
    'log.retention.check.interval.ms': '500',
    'log.initial.task.delay.ms': '500',
    'log.segment.delete.delay.ms': '100',
    'group.min.session.timeout.ms': '1000',
    ...(certificate && keystore(folder, certificate)),
    ...(sasl.length > 0 && saslSettings(sasl)),
    ...config,
  }
  const properties = join(folder, 'server.properties')
  writeFileSync(
    properties,
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  )
  const scram = sasl.filter((mechanism) => mechanism.startsWith('SCRAM'))
  const users = scram.flatMap((mechanism) => ['--add-scram', `${mechanism}=[name=app,password=secret]`])
  execFileSync(
    'java',
    [...jvm, ...JAVA, 'kafka.tools.StorageTool', 'format', '-t', 'bWlsbHJhY2UtdGVzdHMtMQ', '-c', properties, ...users],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  )
  let server: ChildServer | undefined
  const closers: (() => Promise<void>)[] = []
  const kafka = new Kafka({
    clientId: 'test',
    brokers: [`127.0.0.1:${own}`],
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 100, retries: 10 },
  })
  let admin: Promise<Admin> | undefined
  let producer: Promise<Producer> | undefined

  async function connected<C extends { connect(): Promise<void>; disconnect(): Promise<void> }>(client: C): Promise<C> {
    await client.connect()
    closers.push(() => client.disconnect())
    return client
  }

  const broker: KafkaBroker = {
    port,
    brokers: `127.0.0.1:${options.advertised ?? port}`,
    certificate,
    get pid() {
      return server?.pid
    },
    admin: () => (admin ??= connected(kafka.admin())),
    producer: () => (producer ??= connected(kafka.producer())),
    async topic(name, partitions = 1, entries = {}) {
      const client = await broker.admin()
      const configEntries = Object.entries(entries).map(([key, value]) => ({ name: key, value }))
      await client.createTopics({
        waitForLeaders: false,
        topics: [{ topic: name, numPartitions: partitions, configEntries }],
      })
      const led = () =>
        client.fetchTopicMetadata({ topics: [name] }).then(
          ({ topics: [one] }) => one!.partitions.every(({ leader }) => leader >= 0),
          () => false,
        )
      while (!(await led())) await sleep(20)
    },
    kill: async () => server?.end('SIGKILL'),
    stop: async () => server?.end('SIGTERM'),
    async start() {
      server = await startServer('java', [...jvm, ...JAVA, 'kafka.Kafka', properties], {
        ready: /Kafka Server started/,
        cwd: folder,
      })
    },
    pause: () => server?.pause(),
    resume: () => server?.resume(),
    async remove() {
      await Promise.allSettled(closers.map((close) => close()))
      await server?.end('SIGKILL')
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  try {
    await broker.start()
  } catch (error) {
    await broker.remove()
    throw error
  }
  return broker
}

function keystore(folder: string, { keyFile, certificateFile }: Certificate): Record<string, string> {
  const file = join(folder, 'server.p12')
  execFileSync('openssl', [
    'pkcs12',
    '-export',
    '-in',
    certificateFile,
    '-inkey',
    keyFile,
    '-out',
    file,
    '-passout',
    'pass:secret',
  ])
  return {
    'ssl.keystore.location': file,
    'ssl.keystore.type': 'PKCS12',
    'ssl.keystore.password': 'secret',
    'ssl.truststore.location': certificateFile,
    'ssl.truststore.type': 'PEM',
    'ssl.endpoint.identification.algorithm': '',
  }
}

function saslSettings(mechanisms: readonly string[]): Record<string, string> {
  const login = 'username="app" password="secret"'
  const modules: Record<string, string> = {
    PLAIN: `org.apache.kafka.common.security.plain.PlainLoginModule required ${login} user_app="secret";`,
    'SCRAM-SHA-256': `org.apache.kafka.common.security.scram.ScramLoginModule required ${login};`,
    'SCRAM-SHA-512': `org.apache.kafka.common.security.scram.ScramLoginModule required ${login};`,
    OAUTHBEARER:
      'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="app";',
  }
  return {
    'sasl.enabled.mechanisms': mechanisms.join(','),
    'sasl.mechanism.inter.broker.protocol': mechanisms[0]!,
    ...Object.fromEntries(
      mechanisms.map((mechanism) => [
        `listener.name.clients.${mechanism.toLowerCase()}.sasl.jaas.config`,
        modules[mechanism]!,
      ]),
    ),
  }
}
