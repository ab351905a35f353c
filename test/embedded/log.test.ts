import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import { type Log, type LogOptions, openLog } from '../../embedded/log.ts'
import type { LogEntry } from '../../embedded/log-batch.ts'
import { murmur2, partitionOf } from '../../embedded/log-partitioner.ts'
import type { PartitionReader } from '../../embedded/log-reader.ts'

const folders: string[] = []
const opened: { close(): Promise<void> }[] = []
const children: ChildProcess[] = []

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'close')
  }
  for (const one of opened.splice(0)) await one.close()
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function dataFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-log-'))
  folders.push(folder)
  return folder
}

async function open(dataDir: string, options: Partial<LogOptions> = {}): Promise<Log> {
  const log = await openLog({ dataDir, log: 'events', runtime: systemRuntime, sync: 'none', ...options })
  opened.push(log)
  return log
}

async function reading<R>(reader: Promise<PartitionReader>, use: (reader: PartitionReader) => Promise<R>): Promise<R> {
  const it = await reader
  try {
    return await use(it)
  } finally {
    await it.close()
  }
}

async function drain(reader: PartitionReader, records = 1_000) {
  const all = []
  for (
    let some = await reader.read({ records, bytes: 1e9 });
    some?.length;
    some = await reader.read({ records, bytes: 1e9 })
  ) {
    all.push(...some)
  }
  return all
}

const valuesFrom = (log: Log, offset = 0, partition = 0) =>
  reading(log.reader(partition, offset), async (reader) => (await drain(reader)).map(({ value }) => value))

const text = (n: number) => `value ${n} ${'x'.repeat(n % 40)}`
const entries = (from: number, count: number): LogEntry[] =>
  Array.from({ length: count }, (_, i) => ({ value: text(from + i) }))
const texts = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => text(from + i))

/** Appends batches of three until there are so many records. */
async function fill(log: Log, records: number): Promise<void> {
  for (let n = (await log.marks(0)).high; n < records; n += 3) await log.append(0, entries(n, 3))
}

const segments = (dataDir: string) =>
  readdirSync(join(dataDir, 'logs/events/0'))
    .filter((file) => file.endsWith('.log'))
    .sort()
const lastSegment = (dataDir: string) => join(dataDir, 'logs/events/0', segments(dataDir).at(-1)!)

test('keys go to the partitions that Kafka’s default partitioner gives them', () => {
  const hashes = {
    '21': -973932308,
    foobar: -790332482,
    'a-little-bit-long-string': -985981536,
    'a-little-bit-longer-string': -1486304829,
    lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8: -58897971,
    abc: 479470107,
  }
  for (const [key, hash] of Object.entries(hashes)) expect(murmur2(Buffer.from(key))).toBe(hash)
  expect(partitionOf('21', 7)).toBe((-973932308 & 0x7fffffff) % 7)
})

describe('records', () => {
  test('come back as they were appended, from any offset and at any limit', async () => {
    const value = fc.oneof(
      fc.constant(null),
      fc.string({ unit: 'grapheme', maxLength: 30 }),
      fc.uint8Array({ maxLength: 30 }),
    )
    const entry = fc.record(
      {
        key: fc.oneof(fc.constant(null), fc.string({ unit: 'grapheme', maxLength: 9 })),
        value,
        headers: fc.dictionary(
          fc.string({ maxLength: 5 }).filter((name) => name !== '__proto__'),
          fc.string({ maxLength: 5 }),
        ),
        timestamp: fc.integer({ min: 0, max: 2e12 }),
      },
      { requiredKeys: ['key', 'value'] },
    )
    const batches = fc.array(fc.array(entry, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(batches, fc.nat(), fc.integer({ min: 1, max: 7 }), async (given, start, limit) => {
        const now = 1_700_000_000_000
        const log = await open(dataFolder(), { segment: '200B', runtime: { ...systemRuntime, now: () => now } })
        for (const batch of given) await log.append(0, batch)
        const all = given.flat()
        const from = start % (all.length + 1)
        const read = await reading(log.reader(0, from), (reader) => drain(reader, limit))
        expect(read.map(({ position }) => position)).toEqual(all.slice(from).map((_, i) => from + i))
        for (const [i, record] of read.entries()) {
          const wanted = all[from + i]!
          expect(record.key).toBe(wanted.key)
          expect(record.timestamp).toBe(wanted.timestamp ?? now)
          expect(record.headers).toEqual(wanted.headers ?? {})
          expect(Buffer.from(record.bytes())).toEqual(Buffer.from(wanted.value ?? ''))
          if (wanted.value === null) expect(record.value).toBeNull()
          if (typeof wanted.value === 'string') expect(record.value).toBe(wanted.value)
        }
      }),
      { numRuns: 40 },
    )
  })

  test('of one key stay in one partition in their order; those without go together', async () => {
    const log = await open(dataFolder(), { partitions: 4 })
    await log.produce(Array.from({ length: 200 }, (_, n) => ({ key: `k${n % 10}`, value: String(n) })))
    for (let partition = 0; partition < 4; partition++) {
      const records = await reading(log.reader(partition, 0), (reader) => drain(reader))
      for (const { key } of records) expect(partitionOf(key!, 4)).toBe(partition)
      const values = records.map(({ value }) => Number(value))
      expect(values).toEqual(values.toSorted((a, b) => a - b))
    }
    const marks = async () => Promise.all([0, 1, 2, 3].map(async (partition) => (await log.marks(partition)).high))
    const before = await marks()
    for (let turn = 0; turn < 4; turn++) await log.produce(entries(0, 5))
    expect(await marks()).toEqual(before.map((high) => high + 5))
  })

  test('are found by their time', async () => {
    const log = await open(dataFolder(), { segment: '1KB' })
    for (let n = 0; n < 90; n++) await log.append(0, [{ value: text(n), timestamp: n * 10 }])
    expect(segments(folders[0]!).length).toBeGreaterThan(3)
    for (const [time, offset] of [
      [-5, 0],
      [0, 0],
      [1, 1],
      [445, 45],
      [450, 45],
      [890, 89],
      [891, 90],
    ] as const) {
      expect(await log.offsetAt(0, time)).toBe(offset)
    }
  })
})

describe('segments', () => {
  test('are begun when one is full, and read across, by a reader that was there before and by any later one', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir, { segment: '1KB' })
    await log.append(0, entries(0, 3))
    await reading(log.reader(0, 0), async (reader) => {
      expect(await drain(reader)).toHaveLength(3)
      await fill(log, 150)
      expect(segments(dataDir).length).toBeGreaterThan(4)
      expect((await drain(reader)).map(({ value }) => value)).toEqual(texts(3, 150))
    })
    for (let offset = 0; offset <= 150; offset += 7) expect(await valuesFrom(log, offset)).toEqual(texts(offset, 150))
  })

  test('are found without their index, and with a damaged one', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir, { segment: '300KB' })
    for (let n = 0; n < 30_000; n += 300) await log.append(0, entries(n, 300))
    const indexes = readdirSync(join(dataDir, 'logs/events/0')).filter((file) => file.endsWith('.index'))
    expect(indexes.length).toBeGreaterThan(2)
    const read = () =>
      reading(log.reader(0, 12_345), async (reader) => (await reader.read({ records: 1, bytes: 1 }))![0]!.value)
    expect(await read()).toBe(text(12_345))
    for (const index of indexes) {
      const path = join(dataDir, 'logs/events/0', index)
      const bytes = readFileSync(path)
      bytes[9]! ^= 0x40
      writeFileSync(path, bytes)
    }
    expect(await read()).toBe(text(12_345))
    for (const index of indexes) rmSync(join(dataDir, 'logs/events/0', index))
    expect(await read()).toBe(text(12_345))
  })

  test('go when they are too many or too old; a reader that they were taken from says so', async () => {
    const dataDir = dataFolder()
    let now = 1_700_000_000_000
    const log = await open(dataDir, { segment: '1KB', keepBytes: '4KB', runtime: { ...systemRuntime, now: () => now } })
    await fill(log, 30)
    await reading(log.reader(0, 0), async (slow) => {
      expect(await slow.read({ records: 1, bytes: 1 })).toHaveLength(1)
      await fill(log, 600)
      const { low, high } = await log.marks(0)
      expect(high).toBe(600)
      expect(low).toBeGreaterThan(400)
      const kept = segments(dataDir).reduce((sum, file) => sum + statSync(join(dataDir, 'logs/events/0', file)).size, 0)
      expect(kept).toBeLessThan(6_144)
      expect(await valuesFrom(log, low)).toEqual(texts(low, 600))
      await expect(log.reader(0, low - 1)).rejects.toMatchObject({
        code: 'SOURCE_CHANGED',
        message: expect.stringContaining('retention'),
      })
      await expect(drain(slow)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
    })
    const aged = await open(dataDir, { segment: '1KB', keepFor: '1h', runtime: { ...systemRuntime, now: () => now } })
    now += 3_000_000
    await aged.append(0, entries(600, 3))
    expect((await aged.marks(0)).low).toBeLessThan(600)
    now += 3_000_000
    await aged.append(0, entries(603, 3))
    expect(await aged.marks(0)).toEqual({ low: 600, high: 606 })
  })
})

describe('a batch that is appended again', () => {
  test('is there once, whoever appends it, also after new segments, retention and a restart', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir, { segment: '1KB', keepBytes: '2KB' })
    const names = { producer: 'a', batch: 'first' }
    expect(await log.append(0, entries(0, 3), names)).toEqual({ base: 0 })
    expect(await log.append(0, entries(0, 3), names)).toEqual({ base: undefined })
    expect(await log.append(0, entries(0, 3), { producer: 'b', batch: 'first' })).toEqual({ base: 3 })
    await fill(log, 300)
    expect((await log.marks(0)).low).toBeGreaterThan(6)
    const { high } = await log.marks(0)
    const later = await open(dataDir, { segment: '1KB' })
    expect(await later.append(0, entries(0, 3), names)).toEqual({ base: undefined })
    expect(await later.append(0, entries(0, 3), { producer: 'a', batch: 'second' })).toEqual({ base: high })
    expect(await log.append(0, entries(0, 3), { producer: 'a', batch: 'second' })).toEqual({ base: undefined })
  })

  test('adds only what is missing when it reached some partitions', async () => {
    const log = await open(dataFolder(), { partitions: 3 })
    const batch = Array.from({ length: 60 }, (_, n) => ({ key: n % 4 === 0 ? null : `k${n}`, value: String(n) }))
    const names = { producer: 'a', batch: 'first' }
    const mine = batch.filter(({ key }) => key !== null && partitionOf(key, 3) === 1)
    const keyless = partitionOf('first', 3) === 1 ? batch.filter(({ key }) => key === null) : []
    await log.append(1, [...mine, ...keyless], names)
    await log.produce(batch, names)
    await log.produce(batch, names)
    const values = (await Promise.all([0, 1, 2].map((partition) => valuesFrom(log, 0, partition)))).flat()
    expect(values.toSorted()).toEqual(batch.map(({ value }) => value).toSorted())
  })
})

describe('a crash', () => {
  test('at any byte of an append leaves nothing of it; the next append goes where it was', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir)
    await fill(log, 6)
    const path = lastSegment(dataDir)
    const whole = statSync(path).size
    await log.append(0, entries(6, 3), { producer: 'a', batch: 'torn' })
    const bytes = readFileSync(path)
    for (let size = whole; size < bytes.length; size += 5) {
      // Torn as a killed process leaves it, and as a lost page does.
      for (const tail of [
        bytes.subarray(whole, size),
        Buffer.concat([bytes.subarray(whole, size), Buffer.alloc(bytes.length - size)]),
      ]) {
        writeFileSync(path, Buffer.concat([bytes.subarray(0, whole), tail]))
        const after = await open(dataDir)
        expect(await after.marks(0)).toEqual({ low: 0, high: 6 })
        expect(await valuesFrom(after)).toEqual(texts(0, 6))
        expect(await after.append(0, entries(6, 3), { producer: 'a', batch: 'torn' })).toEqual({ base: 6 })
        expect(await valuesFrom(after)).toEqual(texts(0, 9))
        expect(statSync(path).size).toBe(bytes.length)
      }
    }
  })

  test('is waited for by a reader, which gives nothing of what was cut and all of what came in its place', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir)
    await fill(log, 3)
    await reading(log.reader(0, 0), async (reader) => {
      expect(await drain(reader)).toHaveLength(3)
      const path = lastSegment(dataDir)
      const bytes = readFileSync(path)
      writeFileSync(path, Buffer.concat([bytes, bytes.subarray(0, 60)]))
      expect(await reader.read({ records: 9, bytes: 99 })).toEqual([])
      expect(await reader.lag()).toBe(0)
      const other = await open(dataDir)
      await other.append(0, entries(3, 2))
      await reader.more(new AbortController().signal)
      expect((await drain(reader)).map(({ value }) => value)).toEqual(texts(3, 5))
    })
  })

  test('is told from damage: a flipped bit with good records behind it is never cut and never passed over', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir)
    await fill(log, 12)
    const path = lastSegment(dataDir)
    const bytes = readFileSync(path)
    const size = statSync(path).size
    const second = bytes.readUInt32LE(4)
    for (const at of [second, second + 5, second + 20, second + 60]) {
      const damaged = Buffer.from(bytes)
      damaged[at]! ^= 0x10
      writeFileSync(path, damaged)
      const after = await open(dataDir)
      await expect(after.append(0, entries(12, 1))).rejects.toMatchObject({ code: 'LOG_DAMAGED' })
      await reading(after.reader(0, 0), async (reader) => {
        expect((await reader.read({ records: 99, bytes: 1e6 }))!.map(({ value }) => value)).toEqual(texts(0, 3))
        await expect(reader.read({ records: 99, bytes: 1e6 })).rejects.toMatchObject({ code: 'LOG_DAMAGED' })
      })
      expect(statSync(path).size).toBe(size)
    }
  })

  test('of one of two processes that append loses nothing that was answered for, and doubles nothing', async () => {
    const dataDir = dataFolder()
    const log = await open(dataDir, { partitions: 2, segment: '4KB' })
    const next: Record<string, number> = { a: 0, b: 0 }
    const acked: Record<string, number> = { a: -1, b: -1 }
    const seen: string[][] = [[], []]
    const follow = new AbortController()
    const readers = await Promise.all([0, 1].map((partition) => log.reader(partition, 0)))
    opened.unshift(...readers)
    const following = readers.map(async (reader, partition) => {
      while (!follow.signal.aborted) {
        for (const { value } of await drain(reader)) seen[partition]!.push((value as string).split(':', 3).join(':'))
        await reader.more(follow.signal)
      }
      for (const { value } of await drain(reader)) seen[partition]!.push((value as string).split(':', 3).join(':'))
    })
    const life = async (producer: string, kills: number) => {
      for (let kill = 0; kill < kills; kill++) {
        // It begins with the last batch that was answered for: a repeat that must not be appended again.
        const first = Math.max(0, acked[producer]!)
        const child = spawn(
          process.execPath,
          [
            '--conditions=source',
            new URL('../support/log-writer.ts', import.meta.url).pathname,
            dataDir,
            producer,
            String(first),
            '0',
          ],
          { stdio: ['ignore', 'pipe', 'inherit'] },
        )
        children.push(child)
        let heard = 0
        const target = 1 + Math.floor(Math.random() * 25)
        child.stdout!.on('data', (chunk: Buffer) => {
          for (const line of chunk.toString().split('\n').filter(Boolean)) {
            acked[producer] = Math.max(acked[producer]!, Number(line))
            if (++heard === target) setTimeout(() => child.kill('SIGKILL'), Math.random() * 4)
          }
        })
        await once(child, 'close')
        next[producer] = acked[producer]! + 1
      }
    }
    await Promise.all([life('a', 6), life('b', 6)])
    follow.abort()
    await Promise.all(following)

    for (const [partition, keys] of [
      [0, [0, 1, 2].filter((i) => partitionOf(`key-${i}`, 2) === 0)],
      [1, [0, 1, 2].filter((i) => partitionOf(`key-${i}`, 2) === 1)],
    ] as const) {
      const all = (await valuesFrom(log, 0, partition)).map((value) => (value as string).split(':', 3).join(':'))
      expect(seen[partition]).toEqual(all)
      for (const producer of ['a', 'b']) {
        const mine = all.filter((value) => value.startsWith(producer))
        const batches = mine.length / Math.max(1, keys.length)
        expect(batches === 0 || batches >= next[producer]!).toBe(true)
        // At most one further batch was appended and not answered for.
        expect(batches).toBeLessThanOrEqual(next[producer]! + 1)
        expect(mine).toEqual(
          Array.from({ length: batches }, (_, batch) => keys.map((i) => `${producer}:${batch}:${i}`)).flat(),
        )
      }
    }
    expect(acked.a).toBeGreaterThan(5)
  }, 120_000)
})

describe('opening', () => {
  test('by several at once makes one log', async () => {
    const dataDir = dataFolder()
    const logs = await Promise.all(Array.from({ length: 6 }, () => open(dataDir, { partitions: 3 })))
    expect(new Set(logs.map(({ id }) => id)).size).toBe(1)
    expect(readdirSync(join(dataDir, 'logs/events')).sort()).toEqual(['0', '1', '2', 'log.json'])
    expect((await open(dataDir)).partitions).toBe(3)
  })

  test('with another number of partitions is refused with what to do', async () => {
    const dataDir = dataFolder()
    await open(dataDir, { partitions: 3 })
    await expect(open(dataDir, { partitions: 2 })).rejects.toMatchObject({
      code: 'BAD_OPTION',
      message: expect.stringContaining('partitions: 3'),
    })
  })

  test.each(['', '.', '..', 'a/b', 'ä', 'x'.repeat(250)])('a log named %j is refused', async (log) => {
    await expect(open(dataFolder(), { log })).rejects.toMatchObject({ code: 'BAD_OPTION' })
  })

  test.each([{ partitions: 0 }, { partitions: 1.5 }, { segment: '0B' as const }, { keepFor: 'x' as never }])(
    '%j is refused',
    async (options) => {
      await expect(open(dataFolder(), options)).rejects.toMatchObject({ code: 'BAD_OPTION' })
    },
  )

  test('a position beyond the head, or after another record, is refused', async () => {
    const log = await open(dataFolder())
    await fill(log, 6)
    await expect(log.reader(0, 7)).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringContaining('shorter'),
    })
    const last = { position: 5, checksum: crc32(text(5)) }
    await reading(log.reader(0, { next: 6, last }), async (reader) => expect(await reader.lag()).toBe(0))
    await expect(log.reader(0, { next: 6, last: { position: 5, checksum: 1 } })).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
    })
  })

  test('appends of two logs of one process take turns', async () => {
    const dataDir = dataFolder()
    const logs = await Promise.all([open(dataDir), open(dataDir), open(dataDir)])
    await Promise.all(
      logs.flatMap((log, l) => Array.from({ length: 20 }, (_, n) => log.append(0, [{ value: `${l}:${n}` }]))),
    )
    const values = (await valuesFrom(logs[0]!)) as string[]
    expect(values).toHaveLength(60)
    for (const l of [0, 1, 2]) {
      expect(values.filter((value) => value.startsWith(`${l}:`))).toEqual(
        Array.from({ length: 20 }, (_, n) => `${l}:${n}`),
      )
    }
  })
})

test('a cut below what was read is refused, never read over', async () => {
  const dataDir = dataFolder()
  const log = await open(dataDir)
  await fill(log, 6)
  const from = { next: 6, last: { position: 5, checksum: crc32(text(5)) } }
  const size = readFileSync(lastSegment(dataDir)).readUInt32LE(4)
  truncateSync(lastSegment(dataDir), size)
  await expect(log.reader(0, from)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
})
