import { tmpdir } from 'node:os'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { sharing } from '../../core/share.ts'
import { type KafkaOptions, type KafkaSasl, kafkaSource } from '../../sources/kafka.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'
import { connectorContext } from '../support/sink-suite.ts'
import { readAll } from '../support/source-suite.ts'

/** An unsecured token, as a broker without an identity provider takes it. */
function token(lifetime = 3_600): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const now = Math.floor(Date.now() / 1_000)
  return `${part({ alg: 'none' })}.${part({ sub: 'app', iat: now, exp: now + lifetime })}.`
}

need('kafka')('a Kafka that wants TLS and to know who comes', () => {
  let broker: KafkaBroker
  beforeAll(async () => {
    broker = await startKafka({ tls: true, sasl: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'] })
  })
  afterAll(() => broker?.remove())

  async function read(options: Partial<KafkaOptions>, env: Record<string, string> = {}): Promise<void> {
    const context = connectorContext(tmpdir(), { env: { KAFKA_BROKERS: broker.brokers, ...env }, share: sharing() })
    const source = kafkaSource({ topic: 'secured', create: { partitions: 1, replication: 1 }, ...options })
    const open = await source.open(context, { untilEnd: true })
    try {
      const reader = await open.reader(0, undefined)
      expect(await readAll(reader)).toEqual([])
      await reader.close()
    } finally {
      await open.close()
    }
  }

  const login = { username: 'app', password: 'secret' }
  const ways: readonly KafkaSasl[] = [
    { mechanism: 'plain', ...login },
    { mechanism: 'scram-sha-256', ...login },
    { mechanism: 'scram-sha-512', ...login },
    { mechanism: 'oauthbearer', token: () => token() },
  ]

  for (const driver of ['kafkajs', 'platformatic'] as const) {
    test.each(ways)(`${driver}: $mechanism over TLS`, async (sasl) => {
      await read({ driver, tls: { ca: broker.certificate!.ca }, sasl })
    })

    test(`${driver}: a wrong password is final, and in no message`, async () => {
      const sasl: KafkaSasl = { mechanism: 'scram-sha-256', username: 'app', password: 'not-the-one' }
      const failure = await read({ driver, tls: { ca: broker.certificate!.ca }, sasl }).catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'SOURCE_FAILED', retriable: false })
      expect(String(failure)).not.toContain('not-the-one')
    })

    test(`${driver}: a certificate that nobody vouches for is refused`, async () => {
      const failure = await read({ driver, tls: true, sasl: ways[0]! }).catch((error: unknown) => error)
      expect(failure).toMatchObject({
        code: 'SOURCE_FAILED',
        message: expect.stringMatching(/self.signed certificate/),
      })
    })
  }

  test('the environment says all of it', async () => {
    await read(
      {},
      {
        KAFKA_SSL_CA: broker.certificate!.certificateFile,
        KAFKA_SASL_MECHANISM: 'SCRAM-SHA-512',
        KAFKA_SASL_USERNAME: 'app',
        KAFKA_SASL_PASSWORD: 'secret',
      },
    )
    await read(
      { sasl: ways[0]! },
      { KAFKA_SSL: 'true', KAFKA_SSL_CA: broker.certificate!.ca, KAFKA_DRIVER: 'platformatic' },
    )
  })
})
