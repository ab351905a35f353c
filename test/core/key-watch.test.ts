import { expect, test } from 'vitest'
import type { Logger } from '../../core/logger.ts'
import { pipeline } from '../../core/pipeline.ts'
import { type Stream, stream } from '../../core/stream.ts'
import { keyBy } from '../../operators/key-by.ts'
import { repartition } from '../../operators/repartition.ts'
import { scan } from '../../operators/scan.ts'
import { listSource } from '../../testing/list-source.ts'
import { Trial } from '../../testing/trial.ts'
import { anything } from '../support/number-source.ts'

const PEOPLE = 200
const counting = () => scan({ seed: { n: 0 }, step: ({ n }) => ({ n: n + 1 }), ttl: '1d' })
const source = (key: (e: any) => string) =>
  stream(listSource('events', [[]]), { schema: anything, key, time: (e: any) => e.at })

/** What is said aloud while people's records, each person in one partition, and items', in both, go through. */
async function said(flow: () => Stream<unknown>): Promise<string[]> {
  const warnings: string[] = []
  const logger: Logger = { debug() {}, info() {}, warn: (_, text) => warnings.push(text), error() {} }
  const records = Array.from({ length: 2 }, (_, partition) =>
    Array.from({ length: PEOPLE }, (_, n) => ({
      who: `p${n * 2 + partition}`,
      item: `i${n}`,
      at: 1_700_000_000_000 + n,
    })),
  )
  const trial = new Trial({
    inputs: { events: records },
    pipeline: (to) => pipeline('watched', { out: flow().to(to) }),
    worker: { logger },
  })
  await trial.settle()
  await trial.finish()
  return warnings.filter((text) => text.includes('two partitions'))
}

test('a source whose key is not what its partitions are by is told of, once', async () => {
  const warnings = await said(() => source((e) => e.item).pipe(counting()))
  expect(warnings).toHaveLength(1)
  expect(warnings[0]).toMatch(
    /pipeline "watched": one key of events came through two partitions \([01] and [01]\).*repartition/,
  )
})

test('so is a keyBy that brings together what is apart', async () => {
  const warnings = await said(() =>
    source((e) => e.who).pipe(
      keyBy((e: any) => e.item),
      counting(),
    ),
  )
  expect(warnings).toHaveLength(1)
  expect(warnings[0]).toContain('one key of keyBy came')
})

test('a key that follows its partition is not, nor one that a repartition brings together, nor one that nobody keeps', async () => {
  expect(await said(() => source((e) => e.who).pipe(counting()))).toEqual([])
  expect(
    await said(() =>
      source((e) => e.who).pipe(
        repartition((e: any) => e.item),
        counting(),
      ),
    ),
  ).toEqual([])
  expect(await said(() => source((e) => e.item))).toEqual([])
})
