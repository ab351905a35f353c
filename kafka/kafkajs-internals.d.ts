/** The parts of kafkajs 2.2.4 below its public interface that its connections are made of. */
declare module 'kafkajs/src/network/connection.js' {
  class Connection {
    constructor(options: Record<string, unknown>)
    readonly socket: import('node:net').Socket
    readonly clientId: string
    readonly requestQueue: { push(request: Record<string, unknown>): void; rejectAll(error: Error): void }
    connect(): Promise<unknown>
    disconnect(): Promise<unknown>
    isConnected(): boolean
    isAuthenticated(): boolean
    authenticate(): Promise<void>
    nextCorrelationId(): number
    send(request: unknown): Promise<unknown>
    getSupportAuthenticationProtocol(): boolean | null
    setSupportAuthenticationProtocol(supported: boolean): void
    setVersions(versions: unknown): void
  }
  export = Connection
}
declare module 'kafkajs/src/network/requestQueue/index.js' {
  class RequestQueue {
    pending: unknown[]
    throttledUntil: number
    scheduleCheckPendingRequests(): void
  }
  export = RequestQueue
}
declare module 'kafkajs/src/network/socketFactory.js' {
  function socketFactory(): unknown
  export = socketFactory
}
declare module 'kafkajs/src/broker/index.js' {
  class Broker {
    constructor(options: Record<string, unknown>)
    connect(): Promise<void>
  }
  export = Broker
}
declare module 'kafkajs/src/loggers/index.js' {
  const loggers: { createLogger(options: Record<string, unknown>): unknown }
  export = loggers
}
