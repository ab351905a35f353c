import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import { openLog } from '../../embedded/log.ts'
import { partitionOf } from '../../embedded/log-partitioner.ts'
import { type LogSinkOptions, log } from '../../sinks/log.ts'
import { connectorContext, rowMeta, sinkSuite, staged } from '../support/sink-suite.ts'

const root = mkdtempSync(join(tmpdir(), 'millrace-log-sink-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const never = () => new AbortController().signal

interface Row {
  readonly id: string
  readonly n: number
}
const rows = (count: number): Row[] => Array.from({ length: count }, (_, n) => ({ id: `id-${n % 7}`, n }))

async function held(dataDir: string): Promise<{ partition: number; key: string | null; value: unknown }[]> {
  const opened = await openLog({ dataDir, log: 'out', runtime: systemRuntime })
  const all = []
  for (let partition = 0; partition < opened.partitions; partition++) {
    const reader = await opened.reader(partition, 0)
    for (;;) {
      const records = await reader.read({ records: 1e5, bytes: 1e8 })
      if (records === null || records.length === 0) break
      all.push(
        ...records.map(({ key, value }) => ({
          partition,
          key: key ?? null,
          value: value === null ? null : (JSON.parse(value as string) as unknown),
        })),
      )
    }
    await reader.close()
  }
  await opened.close()
  return all
}

sinkSuite<Row>('log', async () => {
  const dataDir = mkdtempSync(join(root, 'data-'))
  return {
    sink: () => log<Row>({ log: 'out', partitions: 3, key: (row) => row.id }),
    context: connectorContext(dataDir, { output: 'out' }),
    rows,
    read: async () => (await held(dataDir)).map(({ value }) => value),
    unencodable: { id: 'x', toJSON: () => undefined } as unknown as Row,
    close: async () => undefined,
  }
})

async function delivered(options: Omit<LogSinkOptions<Row>, 'log'>, some: readonly Row[]) {
  const dataDir = mkdtempSync(join(root, 'data-'))
  const sink = await log<Row>({ log: 'out', ...options }).open(connectorContext(dataDir, { output: 'out' }))
  expect((await sink.deliver(staged(sink, some), never())).kind).toBe('applied')
  await sink.close()
  return held(dataDir)
}

test('a row goes to its key’s partition, and the rows of a key keep their order', async () => {
  const all = await delivered({ partitions: 4, key: (row) => row.id }, rows(70))
  for (const { partition, key } of all) expect(partition).toBe(partitionOf(key!, 4))
  for (let id = 0; id < 7; id++) {
    const mine = all.filter(({ key }) => key === `id-${id}`).map(({ value }) => (value as Row).n)
    expect(mine).toEqual(Array.from({ length: 10 }, (_, n) => n * 7 + id))
  }
})

test('the key is the stream’s where none is given, none where it is null, and text in any case', async () => {
  expect((await delivered({}, rows(2))).map(({ key }) => key)).toEqual(['key-0', 'key-1'])
  expect((await delivered({ key: () => null }, rows(1)))[0]!.key).toBeNull()
  expect((await delivered({ key: () => 42n }, rows(1)))[0]!.key).toBe('42')
  expect((await delivered({ key: () => 'a\tb\n"ü"' }, rows(1)))[0]).toMatchObject({ key: 'a\tb\n"ü"', value: { n: 0 } })
})

test('a value of null is a tombstone', async () => {
  expect(
    (await delivered({ value: (row) => (row.n === 0 ? null : row.id) }, rows(2))).map(({ value }) => value),
  ).toEqual([null, 'id-1'])
})

test('two outputs of one task on one log do not take each other’s batches for repeats', async () => {
  const dataDir = mkdtempSync(join(root, 'data-'))
  for (const output of ['one', 'two']) {
    const sink = await log<Row>({ log: 'out' }).open(connectorContext(dataDir, { output }))
    await sink.deliver(staged(sink, rows(2), { name: 'the same' }), never())
    await sink.close()
  }
  expect(await held(dataDir)).toHaveLength(4)
})

test('wrong options are refused when the pipeline is built, and a row that is no JSON is the row’s error', async () => {
  expect(() => log({ log: '../x' })).toThrow(/log.*'\.\.\/x'/)
  expect(() => log({ log: 'a', partitions: 1.5 })).toThrow(/partitions must be/)
  expect(() => log({ log: 'a', key: 'id' as never })).toThrow(/log 'a': key must be a function of the row, got 'id'/)
  expect(() => log({ log: 'a', value: 5 as never })).toThrow(/value must be a function/)
  const sink = await log<unknown>({ log: 'out' }).open(connectorContext(mkdtempSync(join(root, 'data-'))))
  expect(() => sink.encoder('t').row(undefined, rowMeta(0))).toThrow(
    /log 'out': a row must be JSON or null, got undefined/,
  )
  await sink.close()
})
