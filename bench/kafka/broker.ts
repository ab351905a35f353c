import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Admin, Kafka, logLevel } from 'kafkajs'
import { freePort } from '../../test/support/servers/child-server.ts'
import { jars } from './jars.ts'

/** One broker, its own controller, on the loopback address, with the JVM's usual settings. */
export interface Broker {
  readonly pid: number
  readonly address: string
  readonly admin: Admin
  close(): Promise<void>
}

export async function startBroker(): Promise<Broker> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-broker-'))
  const [port, controller] = [await freePort(), await freePort()]
  const address = `127.0.0.1:${port}`
  const settings = {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    listeners: `PLAINTEXT://${address},CONTROLLER://127.0.0.1:${controller}`,
    'advertised.listeners': `PLAINTEXT://${address}`,
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'log.dirs': join(folder, 'data'),
    'auto.create.topics.enable': 'false',
    'group.initial.rebalance.delay.ms': '0',
    'offsets.topic.replication.factor': '1',
    'offsets.topic.num.partitions': '4',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'transaction.state.log.num.partitions': '4',
  }
  const properties = join(folder, 'server.properties')
  writeFileSync(
    properties,
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  )
  const java = ['-Xmx1g', '-cp', `${jars()}/*`]
  const format = [...java, 'kafka.tools.StorageTool', 'format', '-t', 'bWlsbHJhY2UtYmVuY2gtMQ', '-c', properties]
  execFileSync('java', format, { stdio: ['ignore', 'ignore', 'inherit'] })
  const server = spawn('java', [...java, 'kafka.Kafka', properties], { cwd: folder, stdio: 'ignore' })
  const ended = once(server, 'exit')
  const kill = () => server.kill('SIGKILL')
  process.on('exit', kill)
  const retry = { initialRetryTime: 300, factor: 0, retries: 60 }
  const admin = new Kafka({ clientId: 'bench', brokers: [address], logLevel: logLevel.NOTHING, retry }).admin()
  await Promise.race([
    admin.connect(),
    ended.then(() => Promise.reject(new Error('the broker ended before it was ready'))),
  ])
  return {
    pid: server.pid!,
    address,
    admin,
    async close() {
      await admin.disconnect()
      kill()
      await ended
      process.off('exit', kill)
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
