import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { type Certificate, makeCertificate } from './certificate.ts'
import { type ChildServer, freePort, startServer } from './child-server.ts'

export interface RedisServerOptions {
  /** Lines of an access list, as in `user app on >secret ~app:* +@all`; `default` keeps no rights with one. */
  readonly acl?: readonly string[]
  /** Speaks TLS and nothing else, with a certificate of its own. */
  readonly tls?: boolean
  /** Settings of redis.conf. By default every write is in the append-only file before it is answered for. */
  readonly config?: Readonly<Record<string, string>>
}

/** A real redis-server of the test's own: on a free port of the loopback address, in a folder that goes with it. */
export interface RedisServer {
  readonly port: number
  /** `redis://127.0.0.1:…`, or `rediss://` with TLS. */
  readonly url: string
  readonly certificate: Certificate | undefined
  /** A client with all rights for the test itself. Close it with `disconnect`. */
  client(): Redis
  /** Ends it as a power cut of the process would. */
  kill(): Promise<void>
  /** Starts it again on its port, with its data, and with other settings where given. */
  start(config?: Readonly<Record<string, string>>): Promise<void>
  /** Stops it in its tracks until `resume`: connections stay open, and nothing answers. */
  pause(): void
  resume(): void
  /** Ends it, and removes its folder. */
  remove(): Promise<void>
}

const DURABLE = { appendonly: 'yes', appendfsync: 'always', save: '', 'maxmemory-policy': 'noeviction' }

export async function startRedis({ acl, tls = false, config = {} }: RedisServerOptions = {}): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-redis-'))
  const certificate = tls ? makeCertificate(folder) : undefined
  const settings: Record<string, string> = { bind: '127.0.0.1', dir: folder, ...DURABLE, ...config }
  if (acl) {
    const file = join(folder, 'users.acl')
    writeFileSync(file, ['user default off', 'user test on >test ~* &* +@all', ...acl, ''].join('\n'))
    settings.aclfile = file
  }
  let port = 0
  let server: ChildServer | undefined

  async function start(more: Readonly<Record<string, string>> = {}): Promise<void> {
    Object.assign(settings, more)
    const all = { ...settings, ...portSettings() }
    const args = Object.entries(all).flatMap(([name, value]) => [
      `--${name}`,
      ...(value === '' ? [''] : value.split(' ')),
    ])
    server = await startServer('redis-server', args, { ready: /Ready to accept connections/, cwd: folder })
  }

  function portSettings(): Record<string, string> {
    if (!certificate) return { port: String(port) }
    const { certificateFile, keyFile } = certificate
    return {
      port: '0',
      'tls-port': String(port),
      'tls-cert-file': certificateFile,
      'tls-key-file': keyFile,
      'tls-auth-clients': 'no',
    }
  }

  for (let attempt = 1; !server; attempt++) {
    port = await freePort()
    await start().catch((error: Error) => {
      if (attempt === 5 || !/in use/.test(error.message)) throw error
    })
  }
  const clients = new Set<Redis>()
  return {
    port,
    url: `${tls ? 'rediss' : 'redis'}://127.0.0.1:${port}`,
    certificate,
    client() {
      const client = new Redis({
        host: '127.0.0.1',
        port,
        ...(acl ? { username: 'test', password: 'test' } : {}),
        ...(certificate ? { tls: { ca: certificate.ca } } : {}),
      })
      // A test that kills the server sees the failures of its own calls.
      client.on('error', () => undefined)
      clients.add(client)
      return client
    },
    kill: () => server!.end('SIGKILL'),
    start,
    pause: () => server!.pause(),
    resume: () => server!.resume(),
    async remove() {
      for (const client of clients) client.disconnect()
      await server!.end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
