import type { StandardSchemaV1 } from '@standard-schema/spec'
import { expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import { stream } from '../../core/stream.ts'
import { Turns } from '../../core/turns.ts'
import { startWorker } from '../../core/worker.ts'
import { mapAsync } from '../../operators/map-async.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { createLife, createWorld } from '../simulation/world.ts'
import { noMetrics } from '../support/no-metrics.ts'

test('tasks work beside one another, and one that is alone works beside nobody', async () => {
  const turns = new Turns(systemRuntime)
  const seen: string[] = []
  const work = (name: string, waits: Promise<void>) => async () => {
    seen.push(`${name} begins`)
    await waits
    seen.push(`${name} ends`)
  }
  const gates = Array.from({ length: 4 }, () => Promise.withResolvers<void>())
  const all = Promise.allSettled([
    turns.beside(work('a', gates[0]!.promise)),
    turns.beside(work('b', gates[1]!.promise)),
    turns.alone(work('c', gates[2]!.promise)),
    turns.alone(async () => {
      seen.push('d fails')
      throw new Error('d')
    }),
    turns.beside(work('e', gates[3]!.promise)),
  ])
  for (const gate of gates.toReversed()) {
    gate.resolve()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const ends = await all
  expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  expect(seen).toEqual([
    'a begins',
    'b begins',
    'b ends',
    'a ends',
    'c begins',
    'c ends',
    'd fails',
    'e begins',
    'e ends',
  ])
})

test('what comes from outside is heard between two that take long', async () => {
  const turns = new Turns(systemRuntime)
  const seen: string[] = []
  const long = (name: string) =>
    turns.beside(async () => {
      seen.push(name)
      turns.spend(50)
      // comes in the next turn of the event loop
      setImmediate(() => seen.push(`after ${name}`))
    })
  await Promise.all(['a', 'b', 'c'].map(long))
  expect(seen).toEqual(['a', 'b', 'c'].flatMap((name) => [name, `after ${name}`]).slice(0, -1))
})

const schema: StandardSchemaV1<unknown, string> = {
  '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as string }) },
}

test('of two partitions in one process, the one with the record that kills it loses that record, and the other none', async () => {
  const world = createWorld({ seed: 1 })
  const disk = new MemoryDisk()
  const feeds = [
    ['a', 'KILLER', 'b'],
    ['c', 'd'],
  ]
  const rows = new Set<string>()
  let done = false
  let lives = 0
  while (!done && lives < 100) {
    const life = createLife(world, ++lives)
    const source: Source = {
      kind: 'test',
      name: 'events',
      async open() {
        return {
          identity: 'events',
          partitions: feeds.length,
          unit: 'records',
          decode: ({ value }) => value,
          async reader(partition, from) {
            let next = from?.next ?? 0
            return {
              read: async () => {
                const value = feeds[partition]![next++]
                if (value === undefined) return null
                return [{ position: next - 1, next, value, bytes: () => Buffer.from(value) }]
              },
              more: async () => undefined,
              lag: async () => 0,
              close: async () => undefined,
            }
          },
          close: async () => undefined,
        }
      },
    }
    const sink: Sink<string> = {
      kind: 'test',
      guarantee: 'idempotent',
      touches: 'state',
      async open() {
        return {
          identity: 'rows',
          encoder: () => ({ head: 'json', row: (value) => `${value}\n` }),
          async deliver({ body }) {
            for (const row of Buffer.from(body).toString().trimEnd().split('\n')) rows.add(row)
            return { kind: 'applied' }
          },
          close: async () => undefined,
        }
      },
    }
    // the calls of the second partition are on their way whenever the first kills the process
    const call = (value: string) =>
      life.answer(value < 'c' ? 10 : 1_000, () => {
        if (value === 'KILLER') life.end()
        return value
      })
    void startWorker({
      pipeline: pipeline('turns', {
        rows: stream(source, { schema, key: (value) => value, time: () => 1 })
          .pipe(mapAsync(call, { name: 'call', timeout: '30s' }))
          .to(sink),
      }),
      store: memoryStore({ disk, flush: () => life.answer(1, () => 'committed' as const) }),
      dataDir: '/nowhere',
      env: {},
      runtime: life.runtime,
      logger: silentLogger,
      metrics: noMetrics,
      cache: false,
      untilEnd: true,
    }).then(async (worker) => {
      await worker.done
      done = true
    })
    while (!done && !life.over && (await world.step()));
    disk.crash()
  }
  expect(done).toBe(true)
  expect(disk.deadLetters.map(({ partition, position, where }) => ({ partition, position, where }))).toEqual([
    { partition: 0, position: 1, where: 'task' },
  ])
  expect([...rows].sort()).toEqual(['a', 'b', 'c', 'd'])
})
