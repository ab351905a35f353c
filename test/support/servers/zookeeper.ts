import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, startServer } from './child-server.ts'
import { ZOOKEEPER } from './maven.ts'

/** What keeps replicas of ClickHouse in step: ClickHouse's own Keeper speaks the same protocol. */
export interface ZooKeeper {
  readonly port: number
  close(): Promise<void>
}

/** Starts a ZooKeeper of the test's own. */
export async function startZooKeeper(): Promise<ZooKeeper> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-zookeeper-'))
  const port = await freePort()
  const config = join(folder, 'zoo.cfg')
  writeFileSync(
    config,
    `tickTime=500\ndataDir=${folder}\nclientPort=${port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n`,
  )
  const program = ['-Xmx128m', '-cp', ZOOKEEPER.classPath, 'org.apache.zookeeper.server.quorum.QuorumPeerMain']
  // It prints nothing that says that it is ready.
  const server = await startServer('java', [...program, config], { ready: /SLF4J/, cwd: folder })
  while (!(await answers(port))) await sleep(50)
  return {
    port,
    async close() {
      await server.end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Whether it serves: the command `srvr` is answered by anyone, and with its mode when it does. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let said = ''
    const socket = connect({ port, host: '127.0.0.1' }, () => void socket.write('srvr'))
    socket.on('data', (part) => {
      said += part
    })
    socket.on('error', () => undefined).on('close', () => resolve(/Mode: /.test(said)))
  })
}
