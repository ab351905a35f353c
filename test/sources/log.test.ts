import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { systemRuntime } from '../../core/runtime.ts'
import { openLog } from '../../embedded/log.ts'
import { fromKafka, kafkaSource } from '../../sources/kafka.ts'
import { fromLog, logSource, type StartFrom } from '../../sources/log.ts'
import { connectorContext } from '../support/sink-suite.ts'
import { readAll, type SourceUnderTest, sourceSuite } from '../support/source-suite.ts'

const root = mkdtempSync(join(tmpdir(), 'millrace-log-source-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const folder = () => mkdtempSync(join(root, 'data-'))

const TEXTS: readonly (readonly string[])[] = [
  ['{"n":1}', '{"n":"grün ☂ 𝄞"}', 'not JSON', '[]', ...Array.from({ length: 40 }, (_, n) => `{"n":${n}}`)],
  ['{"other":1}', 'null'],
]

async function system(source: () => ReturnType<typeof logSource>): Promise<SourceUnderTest> {
  const dataDir = folder()
  const log = await openLog({ dataDir, log: 'events', partitions: 2, runtime: systemRuntime, sync: 'none' })
  const texts = TEXTS.map((partition) => [...partition])
  for (const [partition, values] of texts.entries())
    for (const value of values) await log.append(partition, [{ value }])
  const segment = () => {
    const path = join(dataDir, 'logs/events/0')
    return join(
      path,
      readdirSync(path)
        .filter((file) => file.endsWith('.log'))
        .sort()
        .at(-1)!,
    )
  }
  return {
    source,
    context: connectorContext(dataDir),
    records: () => texts.map((partition) => partition.map((text) => Buffer.from(text))),
    values: () => texts[0]!.map((text) => (text.startsWith('not') ? new Error(text) : JSON.parse(text))),
    grow: async () => {
      await log.append(0, [{ value: '{"grown":true}' }])
      texts[0]!.push('{"grown":true}')
    },
    change: async () => {
      await log.close()
      rmSync(join(dataDir, 'logs'), { recursive: true })
      const other = await openLog({ dataDir, log: 'events', partitions: 2, runtime: systemRuntime })
      await other.append(0, [{ value: '{"n":2}' }])
      await other.append(
        0,
        texts[0]!.slice(1).map((value) => ({ value })),
      )
      await other.close()
    },
    cut: async () => {
      // The last batch is one record; where it begins is told by the sizes in the batches' heads.
      const bytes = readFileSync(segment())
      let last = 0
      for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) last = at
      truncateSync(segment(), last)
      texts[0]!.pop()
    },
    close: () => log.close(),
  }
}

sourceSuite('the embedded log', () => system(() => logSource({ log: 'events' })))
sourceSuite('the stand-in of Kafka', () => system(() => kafkaSource({ topic: 'events' })))

async function valuesFrom(dataDir: string, from: StartFrom) {
  const open = await logSource({ log: 'events', from }).open(connectorContext(dataDir), { untilEnd: true })
  const reader = await open.reader(0, undefined)
  const records = await readAll(reader)
  const values = records.map((record) => open.decode(record))
  await reader.close()
  await open.close()
  return { values, records }
}

describe('a log', () => {
  test('begins where it is told to, and says keys, headers, times and tombstones', async () => {
    const dataDir = folder()
    const log = await openLog({ dataDir, log: 'events', runtime: systemRuntime })
    const entries = [1, 2, 3].map((n) => ({
      key: `k${n}`,
      value: n === 2 ? null : `{"n":${n}}`,
      headers: { trace: `t${n}` },
      timestamp: n * 1_000,
    }))
    for (const entry of entries) await log.append(0, [entry])
    await log.close()
    const { values, records } = await valuesFrom(dataDir, 'earliest')
    expect(values).toEqual([{ n: 1 }, null, { n: 3 }])
    expect(records.map(({ key, headers, timestamp, position }) => [key, headers, timestamp, position])).toEqual([
      ['k1', { trace: 't1' }, 1_000, 0],
      ['k2', { trace: 't2' }, 2_000, 1],
      ['k3', { trace: 't3' }, 3_000, 2],
    ])
    expect((await valuesFrom(dataDir, new Date(1_001))).values).toEqual([null, { n: 3 }])
    expect((await valuesFrom(dataDir, 'latest')).values).toEqual([])
  })

  test('that was made anew is another', async () => {
    const dataDir = folder()
    const identity = async () => {
      const open = await logSource({ log: 'events' }).open(connectorContext(dataDir), { untilEnd: true })
      await open.close()
      return open.identity
    }
    const before = await identity()
    expect(await identity()).toBe(before)
    rmSync(join(dataDir, 'logs'), { recursive: true })
    expect(await identity()).not.toBe(before)
  })

  test('of a newer version, and with another number of partitions, is refused', async () => {
    const dataDir = folder()
    const start = (partitions?: number) =>
      logSource({ log: 'events', ...(partitions && { partitions }) }).open(connectorContext(dataDir), {
        untilEnd: true,
      })
    await (await start(3)).close()
    await expect(start(2)).rejects.toMatchObject({
      code: 'BAD_OPTION',
      message: expect.stringContaining('partitions: 3'),
    })
    writeFileSync(join(dataDir, 'logs/events/log.json'), '{"version":2}')
    await expect(start()).rejects.toMatchObject({ code: 'STATE_TOO_NEW' })
  })
})

test('where no brokers are named, the embedded log stands in for Kafka', async () => {
  const open = await kafkaSource({ topic: 'events' }).open(connectorContext(folder()), { untilEnd: true })
  expect(open.standIn).toMatch(/embedded log in .*logs\/events$/)
  await open.close()
})

test.each([
  [{ log: 'a/b' }, /log.*'a\/b'/],
  [{ log: 'a', partitions: 0 }, /partitions must be a whole number/],
  [{ log: 'a', from: 'now' }, /from must be 'earliest', 'latest' or a Date, got 'now'/],
  [{ log: 'a', from: new Date(Number.NaN) }, /from must be/],
])('wrong options are refused when the pipeline is built: %o', (options, message) => {
  const all = { schema: z.unknown(), key: () => 1, time: () => 1, ...options } as never
  expect(() => fromLog(all)).toThrow(message)
  const kafka = { ...(all as object), topic: options.log } as never
  expect(() => fromKafka(kafka)).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }))
})
