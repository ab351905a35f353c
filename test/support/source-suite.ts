import { existsSync, readdirSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ConnectorContext, OpenSource, RawRecord, Reader, ReadFrom, Source } from '../../core/source.ts'

/** A system and a source of it, made anew for each test of the suite. */
export interface SourceUnderTest {
  /** A source of the same stream at each call, as two starts of a pipeline would have it. */
  source(): Source
  readonly context: ConnectorContext
  /** The records' bytes that the system holds now, in order, one list a partition. At least three in the first. */
  records(): readonly (readonly Uint8Array[])[]
  /** What decoding the records of the first partition gives; a record that does not decode is an Error. */
  values(): readonly unknown[]
  /** Adds a record to the first partition; absent when the stream is finite. */
  grow?(): Promise<void>
  /** Makes the first record of the first partition another; absent when nothing can. */
  change?(): Promise<void>
  /** Takes the last record of the first partition away; absent when nothing can. */
  cut?(): Promise<void>
  /** Frees the system and what it kept. */
  close(): Promise<void>
}

const ALL = { records: 100_000, bytes: 1e9 }

/** Where a reader goes on after this record. */
export function after(record: RawRecord): ReadFrom {
  return { next: record.next, last: { position: record.position, checksum: crc32(record.bytes()) } }
}

/** All records up to the head or the end, read within these limits in turn. */
export async function readAll(reader: Reader, limits: readonly { records: number; bytes: number }[] = [ALL]) {
  const all: RawRecord[] = []
  for (let turn = 0; ; turn++) {
    const limit = limits[turn % limits.length]!
    const records = await reader.read(limit)
    if (records === null || records.length === 0) return all
    expect(records.length).toBeLessThanOrEqual(limit.records)
    all.push(...records)
  }
}

/** Holds a source to its port. */
export function sourceSuite(name: string, make: () => Promise<SourceUnderTest>): void {
  const on = (what: string, check: (system: SourceUnderTest) => Promise<void>) =>
    test(`${name}: ${what}`, async () => {
      const system = await make()
      try {
        await check(system)
      } finally {
        await system.close()
      }
    })
  const withReader = async <R>(
    { source, context }: SourceUnderTest,
    use: (reader: Reader, open: OpenSource) => Promise<R>,
    { untilEnd = true, partition = 0, from }: { untilEnd?: boolean; partition?: number; from?: ReadFrom } = {},
  ): Promise<R> => {
    const open = await source().open(context, { untilEnd })
    try {
      const reader = await open.reader(partition, from)
      try {
        return await use(reader, open)
      } finally {
        await reader.close()
      }
    } finally {
      await open.close()
    }
  }
  const bytesOf = (records: readonly RawRecord[]) =>
    records.map((record) => Buffer.from(record.bytes()).toString('latin1'))
  const expected = (system: SourceUnderTest, partition = 0) =>
    system.records()[partition]!.map((bytes) => Buffer.from(bytes).toString('latin1'))

  on('every partition gives its records, in order, with their own bytes, and ends', async (system) => {
    for (let partition = 0; partition < system.records().length; partition++) {
      await withReader(
        system,
        async (reader, open) => {
          expect(open.partitions).toBe(system.records().length)
          const records = await readAll(reader)
          expect(bytesOf(records)).toEqual(expected(system, partition))
          for (const [i, { position, next }] of records.entries()) {
            expect(next).toBeGreaterThan(position)
            expect(position).toBeGreaterThanOrEqual(records[i - 1]?.next ?? 0)
          }
          expect(await reader.read(ALL)).toBeNull()
          expect(await reader.read(ALL)).toBeNull()
        },
        { partition },
      )
    }
  })

  on('any limits give the same records', async (system) => {
    const limit = fc.record({ records: fc.integer({ min: 1, max: 7 }), bytes: fc.integer({ min: 1, max: 600 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(limit, { minLength: 1, maxLength: 5 }), async (limits) => {
        const records = await withReader(system, (reader) => readAll(reader, limits))
        expect(bytesOf(records)).toEqual(expected(system))
      }),
      { numRuns: 15 },
    )
  })

  on('a reader that goes on after any record gives exactly the rest', async (system) => {
    const whole = await withReader(system, (reader) => readAll(reader))
    for (const [i, record] of whole.entries()) {
      const rest = await withReader(system, (reader) => readAll(reader), { from: after(record) })
      expect(bytesOf(rest)).toEqual(expected(system).slice(i + 1))
      expect(rest.map(({ position }) => position)).toEqual(whole.slice(i + 1).map(({ position }) => position))
    }
  })

  on('records decode to their values, and what does not says so without its payload', async (system) => {
    await withReader(system, async (reader, open) => {
      const decoded = (await readAll(reader)).map((record) => {
        try {
          return open.decode(record)
        } catch (error) {
          expect(error).toMatchObject({ code: 'UNDECODABLE' })
          return error
        }
      })
      const values = system.values()
      expect(decoded).toHaveLength(values.length)
      for (const [i, value] of values.entries()) {
        if (value instanceof Error) expect(decoded[i]).toBeInstanceOf(Error)
        else expect(decoded[i]).toEqual(value)
      }
    })
  })

  on('another record before the position is refused', async (system) => {
    const [, second] = await withReader(system, (reader) => readAll(reader))
    const { next, last } = after(second!)
    const from = { next, last: { ...last!, checksum: last!.checksum ^ 1 } }
    await expect(withReader(system, (reader) => readAll(reader), { from })).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
    })
  })

  on('its identity is the same at every start', async (system) => {
    const first = await withReader(system, async (_, { identity }) => identity)
    expect(first).not.toBe('')
    expect(await withReader(system, async (_, { identity }) => identity, { untilEnd: !system.grow })).toBe(first)
  })

  on('lag falls to 0 at the end', async (system) => {
    await withReader(system, async (reader) => {
      expect((await reader.lag()) ?? 1).toBeGreaterThan(0)
      await readAll(reader)
      expect((await reader.lag()) ?? 0).toBe(0)
    })
  })

  on('what it opened is closed', async (system) => {
    const folder = '/proc/self/fd'
    if (!existsSync(folder)) return
    await withReader(system, (reader) => readAll(reader))
    const before = readdirSync(folder).length
    for (let i = 0; i < 5; i++) await withReader(system, (reader) => reader.read({ records: 1, bytes: 1 }))
    expect(readdirSync(folder).length).toBeLessThan(before + 5)
  })

  on('a first record that became another is refused', async (system) => {
    if (!system.change) return
    const [first] = await withReader(system, (reader) => readAll(reader))
    await system.change()
    const from = after(first!)
    await expect(withReader(system, (reader) => readAll(reader), { from })).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
    })
  })

  on('a stream that is shorter than the position is refused', async (system) => {
    if (!system.cut) return
    const last = (await withReader(system, (reader) => readAll(reader))).at(-1)!
    await system.cut()
    const from = after(last)
    await expect(withReader(system, (reader) => readAll(reader), { from })).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
    })
  })

  on('at the head it waits until there is more, or nobody waits any longer', async (system) => {
    if (!system.grow) return
    await withReader(
      system,
      async (reader) => {
        await readAll(reader)
        expect(await reader.read(ALL)).toEqual([])
        expect((await reader.lag()) ?? 0).toBe(0)

        const tired = new AbortController()
        const waiting = reader.more(tired.signal)
        tired.abort()
        await waiting
        expect(await reader.read(ALL)).toEqual([])

        const grown = reader.more(new AbortController().signal)
        await system.grow!()
        await grown
        expect(bytesOf(await readAll(reader))).toEqual(expected(system).slice(-1))
      },
      { untilEnd: false },
    )
  })

  on('what comes after the start is not read until the end of then', async (system) => {
    if (!system.grow) return
    const before = expected(system)
    await withReader(system, async (reader) => {
      await system.grow!()
      expect(bytesOf(await readAll(reader))).toEqual(before)
      expect(await reader.read(ALL)).toBeNull()
    })
    expect(expected(system)).toHaveLength(before.length + 1)
  })
}
