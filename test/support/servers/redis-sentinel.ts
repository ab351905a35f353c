import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { freePort, startServer } from './child-server.ts'

/** A Sentinel that watches one primary, and promotes a replica within about a second of its death. */
export interface Sentinel {
  readonly port: number
  remove(): Promise<void>
}

/** Starts one, and resolves when it knows a replica of the primary on that port. */
export async function startSentinel(name: string, primary: number): Promise<Sentinel> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-sentinel-'))
  const port = await freePort()
  const config = join(folder, 'sentinel.conf')
  const lines = [
    'bind 127.0.0.1',
    `port ${port}`,
    `dir ${folder}`,
    `sentinel monitor ${name} 127.0.0.1 ${primary} 1`,
    `sentinel down-after-milliseconds ${name} 1000`,
    `sentinel failover-timeout ${name} 5000`,
  ]
  writeFileSync(config, `${lines.join('\n')}\n`)
  const server = await startServer('redis-server', [config, '--sentinel'], { ready: /\+monitor master/, cwd: folder })
  const client = new Redis({ host: '127.0.0.1', port })
  client.on('error', () => undefined)
  while (((await client.call('SENTINEL', 'REPLICAS', name)) as unknown[]).length === 0)
    await new Promise((resolve) => setTimeout(resolve, 100))
  client.disconnect()
  return {
    port,
    async remove() {
      await server.end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
