import { Redis } from 'ioredis'
import { freePort } from './child-server.ts'
import { type RedisServer, startRedis } from './redis-server.ts'

/** A cluster of real servers, each with a third of the slots and no replica. */
export interface RedisCluster {
  readonly nodes: readonly RedisServer[]
  /** The address of its first node. */
  readonly url: string
  remove(): Promise<void>
}

const SLOTS = 16_384

export async function startRedisCluster(size = 3): Promise<RedisCluster> {
  const nodes: RedisServer[] = []
  const buses: number[] = []
  for (let node = 0; node < size; node++) {
    const bus = await freePort()
    buses.push(bus)
    nodes.push(await startRedis({ config: { 'cluster-enabled': 'yes', 'cluster-port': String(bus) } }))
  }
  const clients = nodes.map(({ port }) => new Redis({ host: '127.0.0.1', port }))
  const slot = (node: number) => Math.floor((node * SLOTS) / size)
  for (const [node, client] of clients.entries()) {
    await client.call('CLUSTER', 'ADDSLOTSRANGE', slot(node), slot(node + 1) - 1)
    await client.call('CLUSTER', 'MEET', '127.0.0.1', nodes[0]!.port, buses[0]!)
  }
  for (const client of clients) {
    while (!(await client.cluster('INFO')).includes('cluster_state:ok')) await pause(20)
    while (((await client.cluster('SLOTS')) as unknown[]).length < size) await pause(20)
    client.disconnect()
  }
  return {
    nodes,
    url: nodes[0]!.url,
    async remove() {
      await Promise.all(nodes.map((node) => node.remove()))
    },
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
