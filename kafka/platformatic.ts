import { isIP } from 'node:net'
import {
  type ConnectionOptions,
  Connection as PlatformaticConnection,
  SASLMechanisms,
  Writer,
} from '@platformatic/kafka'
import { messageOf } from '../core/errors.ts'
import type { Connection, ConnectionSettings, Driver } from './driver.ts'
import { isCertificate, NotConnected } from './errors.ts'

/** Connections of @platformatic/kafka: sockets, TLS, SASL and its renewal, the queue of requests. */
export const platformatic: Driver = {
  name: 'platformatic',
  async connect({ host, port }, settings) {
    const connection = new PlatformaticConnection(settings.clientId, {
      connectTimeout: 10_000,
      // timeouts are one timer a request, here, because they differ from one kind of request to the next
      requestTimeout: 2_147_483_647,
      maxInflights: 100,
      ...(settings.tls && { tls: settings.tls, tlsServerName: isIP(host) === 0 }),
      ...(settings.sasl && { sasl: saslOf(settings.sasl) }),
    })
    // it throws what nobody listens for
    connection.on('error', () => undefined)
    try {
      await connection.connect(host, port)
    } catch (error) {
      await connection.close().catch(() => undefined)
      throw new NotConnected(`${host}:${port} cannot be reached: ${reasonOf(error)}`, {
        cause: error,
        final: isAuthentication(error) || isCertificate(error),
      })
    }
    return new Platformatic(connection)
  },
}

class Platformatic implements Connection {
  private readonly connection: PlatformaticConnection

  constructor(connection: PlatformaticConnection) {
    this.connection = connection
  }

  get open(): boolean {
    const { status } = this.connection
    return status === 'connected' || status === 'reauthenticating'
  }

  send(api: { name: string; key: number; version: number }, body: Buffer, timeout: number): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const timer = setTimeout(() => {
      reject(new Error(`no answer to ${api.name} within ${timeout} ms`))
      void this.close()
    }, timeout)
    this.connection.send<Buffer>(
      api.key,
      api.version,
      () => Writer.create().append(body),
      (_correlation, _key, _version, reader) => reader.buffer.slice(reader.position),
      false,
      false,
      (error, answer) => (error ? reject(new Error(reasonOf(error))) : resolve(answer!)),
    )
    return promise.finally(() => clearTimeout(timer))
  }

  async close(): Promise<void> {
    await this.connection.close().catch(() => undefined)
  }
}

function saslOf(sasl: NonNullable<ConnectionSettings['sasl']>): NonNullable<ConnectionOptions['sasl']> {
  switch (sasl.mechanism) {
    case 'oauthbearer':
      return { mechanism: SASLMechanisms.OAUTHBEARER, token: sasl.token }
    case 'plain':
      return { ...sasl, mechanism: SASLMechanisms.PLAIN }
    case 'scram-sha-256':
      return { ...sasl, mechanism: SASLMechanisms.SCRAM_SHA_256 }
    case 'scram-sha-512':
      return { ...sasl, mechanism: SASLMechanisms.SCRAM_SHA_512 }
  }
}

/** What is behind its own message, which only says that a connection failed. */
function reasonOf(error: unknown): string {
  const { cause, errors } = error as { cause?: unknown; errors?: readonly unknown[] }
  const deeper = errors?.[0] ?? cause
  return deeper === undefined ? messageOf(error) : reasonOf(deeper)
}

function isAuthentication(error: unknown): boolean {
  const { code, cause } = error as { code?: string; cause?: unknown }
  return code === 'PLT_KFK_AUTHENTICATION' || (cause !== undefined && isAuthentication(cause))
}
