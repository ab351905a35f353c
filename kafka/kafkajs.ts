/// <reference path="./kafkajs-internals.d.ts" />
import Broker from 'kafkajs/src/broker/index.js'
import loggers from 'kafkajs/src/loggers/index.js'
import KafkaJsConnection from 'kafkajs/src/network/connection.js'
import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import socketFactory from 'kafkajs/src/network/socketFactory.js'
import { messageOf } from '../core/errors.ts'
import type { Address } from './apis.ts'
import type { Connection, ConnectionSettings, Driver } from './driver.ts'
import { isCertificate, NotConnected } from './errors.ts'

/** Milliseconds that a connection may take to come up. */
const CONNECT = 10_000

// An idle queue schedules a check of itself 1 ms away, for ever, with a warning for the negative time (kafkajs #1751).
const { scheduleCheckPendingRequests } = RequestQueue.prototype
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
  if (this.pending.length > 0 || this.throttledUntil > Date.now()) scheduleCheckPendingRequests.call(this)
}

/**
 * Connections of kafkajs: sockets, TLS, SASL and its renewal, the queue of requests. What is above them in kafkajs (the
 * consumer, the producer) is not used: it stalls all partitions of a broker for the slowest, jumps when a position is out
 * of range, and encodes at three times the cost.
 */
export const kafkajs: Driver = {
  name: 'kafkajs',
  async connect({ host, port }, settings) {
    const connection = new KafkaJsConnection({
      host,
      port,
      clientId: settings.clientId,
      ssl: settings.tls,
      sasl: saslOf(settings),
      socketFactory: socketFactory(),
      connectionTimeout: CONNECT,
      // its watch over timeouts wakes ten times a second for each connection; ours is one timer a request
      enforceRequestTimeout: false,
      requestTimeout: 0,
      logger: loggers.createLogger({ level: 0, logCreator: () => () => undefined }),
    })
    try {
      await connection.connect()
      // asks for the versions of the broker's requests, and authenticates
      await new Broker({ connectionPool: poolOf(connection, settings), logger: silent }).connect()
    } catch (error) {
      await connection.disconnect().catch(() => undefined)
      throw notConnected({ host, port }, error)
    }
    return new KafkaJs(connection)
  },
}

const silent = loggers.createLogger({ level: 0, logCreator: () => () => undefined })

class KafkaJs implements Connection {
  private readonly connection: KafkaJsConnection
  /** It still says that it is connected while it is being closed. */
  private closed = false

  constructor(connection: KafkaJsConnection) {
    this.connection = connection
  }

  get open(): boolean {
    return !this.closed && this.connection.isConnected()
  }

  async send(api: { name: string; key: number; version: number }, body: Buffer, timeout: number): Promise<Buffer> {
    const { connection } = this
    if (!connection.isAuthenticated()) await connection.authenticate()
    if (!this.open) throw new NotConnected('the connection was closed')
    const correlationId = connection.nextCorrelationId()
    const { promise, resolve, reject } = Promise.withResolvers<{ payload: Buffer }>()
    const timer = setTimeout(() => {
      reject(new Error(`no answer to ${api.name} within ${timeout} ms`))
      void this.close()
    }, timeout)
    try {
      connection.requestQueue.push({
        entry: { apiKey: api.key, apiName: api.name, apiVersion: api.version, correlationId, resolve, reject },
        expectResponse: true,
        requestTimeout: null,
        sendRequest: () => {
          const { socket } = connection
          socket.cork()
          socket.write(headOf(api, correlationId, connection.clientId, body.length))
          socket.write(body)
          socket.uncork()
        },
      })
      return (await promise).payload
    } finally {
      clearTimeout(timer)
    }
  }

  async close(): Promise<void> {
    const { connection } = this
    this.closed = true
    // it would wait for the answers to what is under way
    connection.requestQueue.rejectAll(new Error('the connection was closed'))
    connection.socket.destroy()
    await connection.disconnect().catch(() => undefined)
  }
}

/** The length, and the request header of version 1. */
function headOf(
  api: { key: number; version: number },
  correlationId: number,
  clientId: string,
  length: number,
): Buffer {
  const name = Buffer.byteLength(clientId)
  const head = Buffer.allocUnsafe(14 + name)
  head.writeInt32BE(10 + name + length, 0)
  head.writeInt16BE(api.key, 4)
  head.writeInt16BE(api.version, 6)
  head.writeInt32BE(correlationId, 8)
  head.writeInt16BE(name, 12)
  head.write(clientId, 14)
  return head
}

/** One connection, as kafkajs's broker wants to see its pool. */
function poolOf(connection: KafkaJsConnection, { sasl }: ConnectionSettings) {
  return {
    host: '',
    port: 0,
    sasl,
    connectionTimeout: CONNECT,
    getConnection: async () => connection,
    isConnected: () => false,
    isAuthenticated: () => connection.isAuthenticated(),
    setVersions: (versions: unknown) => connection.setVersions(versions),
    setSupportAuthenticationProtocol: (supported: boolean) => connection.setSupportAuthenticationProtocol(supported),
    send: (request: unknown) => connection.send(request),
  }
}

function saslOf({ sasl }: ConnectionSettings): unknown {
  if (sasl?.mechanism === 'oauthbearer')
    return { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: await sasl.token() }) }
  return sasl && { ...sasl }
}

function notConnected({ host, port }: Address, error: unknown): NotConnected {
  const { name } = error as { name?: string }
  const final = name === 'KafkaJSSASLAuthenticationError' || isCertificate(error)
  return new NotConnected(`${host}:${port} cannot be reached: ${messageOf(error)}`, { cause: error, final })
}
