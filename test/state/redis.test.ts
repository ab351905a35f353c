import { afterAll, beforeAll } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import type { Store } from '../../core/store.ts'
import { redisStore } from '../../state/redis.ts'
import { inspectRedis } from '../../state/redis-inspect.ts'
import { need } from '../support/servers/need.ts'
import { faultProxy } from '../support/servers/proxy.ts'
import { type RedisServer, startRedis } from '../support/servers/redis-server.ts'
import { storeSuite } from '../support/store-suite.ts'

let server: RedisServer

need('redis')('the state in a real Redis', () => {
  beforeAll(async () => {
    server = await startRedis({ config: { appendfsync: 'no' } })
  })
  afterAll(() => server.remove())

  let places = 0

  storeSuite('Redis', async () => {
    places += 1
    const prefix = `suite-${places}`
    const proxy = await faultProxy({ port: server.port })
    const url = `redis://127.0.0.1:${proxy.port}?prefix=${prefix}`
    let last: Store | undefined
    return {
      async open() {
        last = await redisStore({ url, runtime: systemRuntime })
        return last
      },
      async crash() {
        await proxy.refuse()
        await last!.close()
        await proxy.accept()
      },
      async deadLetters() {
        const view = await inspectRedis({ url })
        try {
          return await view.deadLetters.list({ limit: 1_000 })
        } finally {
          await view.close()
        }
      },
      async remove() {
        await proxy.close()
      },
    }
  })
})
