import type { ConnectionOptions } from 'node:tls'
import type { Address } from './apis.ts'

/** The clients whose connections can carry the requests. */
export type DriverName = 'kafkajs' | 'platformatic'

/** How one proves to a broker who one is. */
export type Sasl =
  | {
      readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'
      readonly username: string
      readonly password: string
    }
  | { readonly mechanism: 'oauthbearer'; readonly token: () => Promise<string> }

/** What a connection is made with. */
export interface ConnectionSettings {
  readonly clientId: string
  readonly tls: ConnectionOptions | undefined
  readonly sasl: Sasl | undefined
}

/**
 * The driver port: what makes connections to brokers, with TLS and SASL (and its renewal), and carries a request over
 * one. A client library is used for just that: what is sent, and when, is the same whichever it is.
 */
export interface Driver {
  readonly name: DriverName
  /** @throws NotConnected when the broker is not there, or refuses who comes */
  connect(broker: Address, settings: ConnectionSettings): Promise<Connection>
}

/** One connection. A broker answers its requests in their order: what may wait has one of its own. */
export interface Connection {
  /** It can carry a request, as far as is known. */
  readonly open: boolean
  /**
   * Sends one request, and gives the body of the answer.
   *
   * @param timeout milliseconds that the answer may take
   * @throws when it is not known whether the broker took the request: a reset, a timeout
   */
  send(
    api: { readonly name: string; readonly key: number; readonly version: number },
    body: Buffer,
    timeout: number,
  ): Promise<Buffer>
  close(): Promise<void>
}
