import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ChildServer, freePort, startServer } from './child-server.ts'

/** A ClickHouse engine that answers on a port, as far as a server is to be had without its binary. */
export interface ClickHouseServer {
  readonly port: number
  readonly url: string
  readonly user: string
  readonly password: string
  /** Ends it with SIGKILL. */
  kill(): Promise<void>
  /** Starts it again, on the same port and with the same data. */
  start(): Promise<void>
  close(): Promise<void>
}

export interface ClickHouseConfig {
  /** The port of the ZooKeeper that it keeps its replicas in step with. */
  readonly zooKeeper?: number
  /** What it says for `{replica}`; `{shard}` is `one`. */
  readonly replica?: string
}

const PROCESS = fileURLToPath(new URL('./clickhouse-process.ts', import.meta.url))
/** It listens on none such; a host of a cluster that has it is known to be the server itself. */
const NATIVE = 9_000

/** Starts one with the cluster `alone`, whose only shard is the server itself. */
export async function startClickHouse({ zooKeeper, replica = 'r1' }: ClickHouseConfig = {}): Promise<ClickHouseServer> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-clickhouse-server-'))
  const port = await freePort()
  const [user, password] = ['writer', 'pass:w/rd%1']
  const shard = `<shard><replica><host>localhost</host><port>${NATIVE}</port></replica></shard>`
  const keeper = `<zookeeper><node><host>127.0.0.1</host><port>${zooKeeper}</port></node><session_timeout_ms>1000</session_timeout_ms></zookeeper>`
  const config = join(folder, 'config.xml')
  writeFileSync(
    config,
    `<clickhouse>
  <tcp_port>${NATIVE}</tcp_port>
  <macros><shard>one</shard><replica>${replica}</replica></macros>
  <remote_servers><alone>${shard}</alone></remote_servers>
  ${zooKeeper === undefined ? '' : keeper}
</clickhouse>
`,
  )
  let server: ChildServer | undefined
  const start = async () => {
    const args = [PROCESS, join(folder, 'data'), String(port), config, user, password]
    server = await startServer(process.execPath, args, { ready: /ready/, cwd: folder })
  }
  await start()
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    user,
    password,
    start,
    kill: async () => server?.end('SIGKILL'),
    async close() {
      await server?.end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
