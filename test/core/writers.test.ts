import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { RawRecord, Sink, Source } from '../../core/index.ts'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { stream } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { anything } from '../support/number-source.ts'

interface Written {
  readonly writer: number
  readonly sequence: number
}

/** What several writers have written, of whom some have written a part again. */
const log = fc
  .array(fc.record({ writer: fc.integer({ min: 0, max: 2 }), repeat: fc.nat({ max: 3 }) }), {
    minLength: 1,
    maxLength: 60,
  })
  .map((turns) => {
    const next = [1, 1, 1]
    return turns.flatMap(({ writer, repeat }): Written[] => {
      const from = Math.max(1, next[writer]! - repeat)
      const sequences = Array.from({ length: next[writer]! - from + 1 }, (_, i) => from + i)
      next[writer]!++
      return sequences.map((sequence) => ({ writer, sequence }))
    })
  })

function sourceOf(written: readonly Written[]): Source {
  const record = ({ writer, sequence }: Written, position: number): RawRecord => ({
    position,
    next: position + 1,
    value: { at: position, key: 'k', is: `${writer}/${sequence}` },
    bytes: () => Buffer.from(`${writer}/${sequence}`),
    writer: { name: `writer-${writer}`, sequence },
  })
  return {
    kind: 'written',
    name: 'written',
    open: async () => ({
      identity: 'written',
      partitions: 1,
      unit: 'records',
      decode: ({ value }) => value,
      async reader(_, from) {
        let at = from?.next ?? 0
        return {
          async read({ records }) {
            if (at >= written.length) return null
            const some = written.slice(at, at + records).map((one, i) => record(one, at + i))
            at += some.length
            return some
          },
          more: async () => undefined,
          lag: async () => written.length - at,
          close: async () => undefined,
        }
      },
      close: async () => undefined,
    }),
  }
}

test('what a writer has written twice is had once, over restarts, too', async () => {
  await fc.assert(
    fc.asyncProperty(log, fc.integer({ min: 0, max: 60 }), async (written, cut) => {
      const seen: string[] = []
      const sink: Sink<{ is: string }> = {
        kind: 'list',
        guarantee: 'idempotent',
        touches: 'state',
        open: async () => ({
          identity: 'list',
          encoder: () => ({ head: '', row: ({ is }) => `${is}\n` }),
          async deliver({ body }) {
            seen.push(...Buffer.from(body).toString().trim().split('\n'))
            return { kind: 'applied' }
          },
          close: async () => undefined,
        }),
      }
      const disk = new MemoryDisk()
      for (const part of [written.slice(0, cut), written]) {
        const all = stream(sourceOf(part), { schema: anything, key: (e) => e.key, time: (e) => e.at })
        const worker = await startWorker({
          pipeline: pipeline('written', { list: all.to(sink as Sink<any>) }),
          store: memoryStore({ disk }),
          dataDir: '/nowhere',
          env: {},
          runtime: systemRuntime,
          logger: silentLogger,
          metrics: createMetrics(),
          reopen: true,
          untilEnd: true,
        })
        await worker.done
      }
      const once = [...new Set(written.map(({ writer, sequence }) => `${writer}/${sequence}`))]
      expect(seen.sort()).toEqual(once.sort())
    }),
    { numRuns: 30 },
  )
})
