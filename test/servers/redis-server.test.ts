import { Cluster, Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { need } from '../support/servers/need.ts'
import { startRedisCluster } from '../support/servers/redis-cluster.ts'
import { startRedis } from '../support/servers/redis-server.ts'

need('redis')('a real Redis for tests', () => {
  let remove: (() => Promise<void>) | undefined

  afterEach(async () => {
    await remove?.()
    remove = undefined
  })

  it('keeps what it answered for when it is killed and started again', async () => {
    const server = await startRedis()
    remove = server.remove
    const client = server.client()
    await client.set('a', '1')
    await server.kill()
    await server.start()
    expect(await server.client().get('a')).toBe('1')
  })

  it('answers nothing while it is paused', async () => {
    const server = await startRedis()
    remove = server.remove
    const client = server.client()
    await client.ping()
    server.pause()
    const pong = client.ping()
    expect(await Promise.race([pong, new Promise((resolve) => setTimeout(resolve, 100, 'nothing'))])).toBe('nothing')
    server.resume()
    expect(await pong).toBe('PONG')
  })

  it('speaks TLS, and lets in the users of its list only', async () => {
    const server = await startRedis({ tls: true, acl: ['user app on >secret ~app:* +@all'] })
    remove = server.remove
    const tls = { ca: server.certificate!.ca }
    const app = new Redis(server.url, { tls, username: 'app', password: 'secret' })
    expect(await app.set('app:a', '1')).toBe('OK')
    await expect(app.set('other', '1')).rejects.toThrow('NOPERM')
    app.disconnect()
    const nobody = new Redis(server.url, { tls, retryStrategy: () => null })
    nobody.on('error', () => undefined)
    await expect(nobody.ping()).rejects.toThrow('NOAUTH')
    nobody.disconnect()
  })

  it('is a cluster of three', async () => {
    const nodes = await startRedisCluster()
    remove = nodes.remove
    const cluster = new Cluster([nodes.url])
    for (let key = 0; key < 30; key++) await cluster.set(`key ${key}`, String(key))
    expect(await cluster.get('key 29')).toBe('29')
    const sizes = await Promise.all(cluster.nodes('master').map((node) => node.dbsize()))
    expect(sizes.filter((size) => size > 0)).toHaveLength(3)
    cluster.disconnect()
  })
})
