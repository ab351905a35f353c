import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { ConnectionOptions } from 'node:tls'
import { shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Address } from './apis.ts'
import type { ConnectionSettings, DriverName, Sasl } from './driver.ts'

/** How one proves to the brokers who one is. */
export type KafkaSasl =
  | { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: string }
  /** Gives a token that is valid now; it is called at each connection, and when the broker wants a new one. */
  | { mechanism: 'oauthbearer'; token: () => string | Promise<string> }

/** Which Kafka, and how to come to it. What is not said here is looked for in the environment. */
export interface KafkaConnection {
  /** `host:port`, comma-separated. @default KAFKA_BROKERS; where that is not set either, the embedded log stands in */
  brokers?: string
  /** `true`, or what Node's `tls.connect` takes. @default KAFKA_SSL (`true`), KAFKA_SSL_CA, KAFKA_SSL_CERT, KAFKA_SSL_KEY (paths, or PEM) */
  tls?: boolean | ConnectionOptions
  /** @default KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, or KAFKA_SASL_TOKEN_FILE for oauthbearer */
  sasl?: KafkaSasl
  /** Whose connections are used. @default KAFKA_DRIVER, or 'kafkajs' */
  driver?: DriverName
}

/** A cluster that can be connected to. */
export interface ClusterSettings extends ConnectionSettings {
  readonly brokers: readonly Address[]
  readonly driver: DriverName
  /** Tells clusters and their credentials apart, and gives none of them away. */
  readonly id: string
}

type Env = Readonly<Record<string, string | undefined>>

/** The cluster that options or the environment name; undefined when neither does. @throws MillraceError BAD_OPTION */
export function clusterSettings(
  options: KafkaConnection,
  env: Env,
  where: string,
  clientId: string,
): ClusterSettings | undefined {
  const named = options.brokers ?? env.KAFKA_BROKERS
  if (!named) return undefined
  const brokers = addresses(named, options.brokers === undefined ? 'KAFKA_BROKERS' : `${where}: brokers`)
  const driver = options.driver ?? env.KAFKA_DRIVER ?? 'kafkajs'
  if (driver !== 'kafkajs' && driver !== 'platformatic') {
    const asked = options.driver === undefined ? 'KAFKA_DRIVER' : `${where}: driver`
    throw new MillraceError('BAD_OPTION', `${asked} must be 'kafkajs' or 'platformatic', got ${shown(driver)}`)
  }
  const tls = tlsOf(options, env)
  const sasl = saslOf(options, env, where)
  const secrets = createHash('sha256')
    .update(JSON.stringify([tls ?? null, sasl ?? null]))
    .digest('hex')
    .slice(0, 12)
  return { brokers, driver, clientId, tls, sasl, id: `${driver} ${named} ${secrets}` }
}

/** @throws MillraceError BAD_OPTION when an option is not of its form */
export function checkConnection({ brokers, tls, sasl, driver }: KafkaConnection, where: string): void {
  const bad = (what: string, wanted: string, got: unknown) =>
    new MillraceError('BAD_OPTION', `${where}: ${what} must be ${wanted}, got ${shown(got)}`)
  if (brokers !== undefined) addresses(brokers, `${where}: brokers`)
  if (tls !== undefined && typeof tls !== 'boolean' && (typeof tls !== 'object' || tls === null))
    throw bad('tls', "true or options of Node's tls.connect", tls)
  if (driver !== undefined && driver !== 'kafkajs' && driver !== 'platformatic')
    throw bad('driver', "'kafkajs' or 'platformatic'", driver)
  if (sasl !== undefined) checkSasl(sasl, `${where}: sasl`)
}

function addresses(text: unknown, where: string): Address[] {
  const parts = typeof text === 'string' ? text.split(',').map((part) => part.trim()) : []
  const found = parts.map((part) => /^(\[[^\]]+\]|[^:\s[\]]+):(\d{1,5})$/.exec(part))
  if (found.length === 0 || found.some((match) => match === null || Number(match[2]) > 65_535)) {
    throw new MillraceError('BAD_OPTION', `${where} must be like 'kafka-1:9092,kafka-2:9092', got ${shown(text)}`)
  }
  return found.map((match) => ({ host: match![1]!.replace(/^\[|\]$/g, ''), port: Number(match![2]) }))
}

function tlsOf({ tls }: KafkaConnection, env: Env): ConnectionOptions | undefined {
  if (typeof tls === 'object') return tls
  const said = env.KAFKA_SSL
  if (said !== undefined && !['', '0', '1', 'false', 'true'].includes(said))
    throw new MillraceError('BAD_OPTION', `KAFKA_SSL must be true or false, got ${shown(said)}`)
  const pem = (['ca', 'cert', 'key'] as const).flatMap((name) => {
    const given = env[`KAFKA_SSL_${name.toUpperCase()}`]
    return given ? [[name, pemOf(given, `KAFKA_SSL_${name.toUpperCase()}`)] as const] : []
  })
  const wanted = tls ?? (said === undefined || said === '' ? pem.length > 0 : said === 'true' || said === '1')
  return wanted ? Object.fromEntries(pem) : undefined
}

function pemOf(given: string, where: string): string {
  if (given.includes('-----BEGIN')) return given
  try {
    return readFileSync(given, 'utf8')
  } catch (error) {
    // the message names the path, never what is in it
    throw new MillraceError('BAD_OPTION', `${where} must be PEM text or the path of such a file: ${messageOf(error)}`)
  }
}

function saslOf(options: KafkaConnection, env: Env, where: string): Sasl | undefined {
  const given = options.sasl ?? fromEnvironment(env)
  if (given === undefined) return undefined
  checkSasl(given, options.sasl ? `${where}: sasl` : 'KAFKA_SASL_*')
  if (given.mechanism !== 'oauthbearer') return { ...given }
  const { token } = given
  return { mechanism: 'oauthbearer', token: async () => token() }
}

function fromEnvironment(env: Env): KafkaSasl | undefined {
  const mechanism = env.KAFKA_SASL_MECHANISM?.toLowerCase()
  if (!mechanism) return undefined
  if (mechanism === 'oauthbearer') {
    const { KAFKA_SASL_TOKEN: token, KAFKA_SASL_TOKEN_FILE: file } = env
    if (file) return { mechanism, token: async () => (await readFile(file, 'utf8')).trim() }
    return { mechanism, token: token ? () => token : (undefined as never) }
  }
  return {
    mechanism: mechanism as 'plain',
    username: env.KAFKA_SASL_USERNAME as string,
    password: env.KAFKA_SASL_PASSWORD as string,
  }
}

function checkSasl(sasl: KafkaSasl, where: string): void {
  const bad = (message: string) => new MillraceError('BAD_OPTION', `${where}: ${message}`)
  switch (sasl?.mechanism) {
    case 'plain':
    case 'scram-sha-256':
    case 'scram-sha-512':
      if (typeof sasl.username !== 'string' || sasl.username === '') throw bad(`${sasl.mechanism} needs a username`)
      if (typeof sasl.password !== 'string' || sasl.password === '') throw bad(`${sasl.mechanism} needs a password`)
      return
    case 'oauthbearer':
      if (typeof sasl.token !== 'function')
        throw bad('oauthbearer needs a token: a function that gives it, or KAFKA_SASL_TOKEN_FILE')
      return
    default:
      throw bad(
        `mechanism must be 'plain', 'scram-sha-256', 'scram-sha-512' or 'oauthbearer', got ${shown((sasl as { mechanism?: unknown } | undefined)?.mechanism)}`,
      )
  }
}
