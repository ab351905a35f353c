import { describe, expect, test } from 'vitest'
import type { Outcome } from '../../core/sink.ts'
import { MemoryDisk } from '../../state/memory.ts'
import { type CountingSink, type CountingSinkOptions, countingSink } from '../support/counting-sink.ts'
import { numbersTo, until } from '../support/memory-run.ts'

type Answer = Outcome & { took?: boolean }

/** Runs so many numbers into a sink that gives these answers in turn, and `applied` afterwards. */
async function deliver(
  answers: readonly Answer[],
  { records = 100, ...options }: CountingSinkOptions & { records?: number } = {},
) {
  const left = [...answers]
  const sink = countingSink({ ...options, answer: async () => left.shift() ?? { kind: 'applied' } })
  const disk = new MemoryDisk()
  const worker = await numbersTo({ records, disk, sinks: { out: [sink] } })
  return { sink, disk, status: await worker.done }
}

const numbersOf = (sink: CountingSink) => sink.lines.map((line) => JSON.parse(line).n as number)
const upTo = (end: number) => Array.from({ length: end }, (_, n) => n)

describe('a lane', () => {
  test('delivers in order, each batch under a name of its own', async () => {
    const { sink, status } = await deliver([], { records: 20_000 })
    expect(numbersOf(sink)).toEqual(upTo(20_000))
    expect(sink.requests.length).toBeGreaterThan(1)
    expect(new Set(sink.requests.map(({ name }) => name)).size).toBe(sink.requests.length)
    expect(sink.requests.every(({ attempt, afterUnknown }) => attempt === 1 && !afterUnknown)).toBe(true)
    expect(status.sinks.out).toMatchObject({ rows: 20_000, stagedBatches: 0, stagedBytes: 0, state: 'ready' })
  })

  test.each([
    ['unknown, and took effect', { kind: 'unknown', reason: 'the connection broke', took: true }, true],
    ['unknown, and did not', { kind: 'unknown', reason: 'the connection broke' }, true],
    ['not sent', { kind: 'notSent', reason: 'refused' }, false],
    ['rejected for now', { kind: 'rejected', retry: 'later', reason: 'too many requests' }, false],
  ] as const)('sends what was %s again: the same name, the same bytes', async (_, answer, afterUnknown) => {
    const { sink } = await deliver([answer, answer])
    const [first, second, third] = sink.requests
    expect([second!.name, third!.name]).toEqual([first!.name, first!.name])
    expect(Buffer.compare(first!.body, third!.body)).toBe(0)
    expect([first, second, third].map((request) => request!.attempt)).toEqual([1, 2, 3])
    expect([first, second, third].map((request) => request!.afterUnknown)).toEqual([false, afterUnknown, afterUnknown])
    expect(numbersOf(sink)).toEqual(upTo(100))
  })

  test('a sink that throws is taken for one that does not know', async () => {
    let thrown = false
    const sink = countingSink({
      async answer() {
        if (thrown) return { kind: 'applied' }
        thrown = true
        throw new Error('socket hang up')
      },
    })
    const worker = await numbersTo({ records: 10, sinks: { out: [sink] } })
    await worker.done
    expect(sink.requests[1]).toMatchObject({ name: sink.requests[0]!.name, afterUnknown: true })
    expect(sink.rows).toBe(10)
  })

  test('rows that are refused beside applied ones are dead letters with their reason', async () => {
    const rejected = [
      { row: 3, reason: 'no such column' },
      { row: 7, reason: 'too long' },
    ]
    const { sink, disk, status } = await deliver([{ kind: 'applied', rejected }])
    expect(numbersOf(sink)).toEqual(upTo(100).filter((n) => n !== 3 && n !== 7))
    expect(
      disk.deadLetters.map(({ where, code, reason, bytes }) => [
        where,
        code,
        reason,
        JSON.parse(Buffer.from(bytes).toString()).n,
      ]),
    ).toEqual([
      ['out', 'SINK_REJECTED', 'no such column', 3],
      ['out', 'SINK_REJECTED', 'too long', 7],
    ])
    expect(status).toMatchObject({ deadLetters: 2, sinks: { out: { rows: 98, rejected: 2 } } })
  })

  test('a batch that is refused for some rows goes on without them, under another name, before what follows it', async () => {
    const { sink, disk } = await deliver(
      [{ kind: 'rejected', retry: 'never', reason: 'types', rows: [{ row: 0, reason: 'n is 0' }] }],
      { records: 5_000 },
    )
    expect(numbersOf(sink)).toEqual(upTo(5_000).slice(1))
    expect(sink.requests[1]!.name).toBe(`${sink.requests[0]!.name}r`)
    expect(disk.deadLetters.map(({ reason }) => reason)).toEqual(['n is 0'])
  })

  test('a batch that is refused whole is set aside row by row, and the lane goes on', async () => {
    const { sink, disk, status } = await deliver([{ kind: 'rejected', retry: 'never', reason: 'no such table' }], {
      records: 2_000,
      limit: { rows: 50 },
    })
    expect(disk.deadLetters.map(({ position, reason }) => [position, reason])).toEqual(
      upTo(50).map((row) => [row, 'no such table']),
    )
    expect(numbersOf(sink)).toEqual(upTo(2_000).slice(50))
    expect(status.deadLetters).toBe(50)
  })

  test('a batch has not more rows or bytes than its sink takes', async () => {
    const { sink } = await deliver([], { records: 3_000, limit: { rows: 70, bytes: 2_000 } })
    for (const { rows, body } of sink.requests) {
      expect(rows).toBeLessThanOrEqual(70)
      expect(body.length).toBeLessThanOrEqual(2_000)
    }
    expect(numbersOf(sink)).toEqual(upTo(3_000))
  })

  test('an attempt of a sink that cannot tell repeats is recorded before it is made', async () => {
    const disk = new MemoryDisk()
    const seen: number[] = []
    const sink = countingSink({
      guarantee: 'ledger',
      async answer({ name }) {
        const [task] = disk.tasks()
        seen.push(disk.task(task!)!.batches.get(name)!.attempts)
        return seen.length < 3 ? { kind: 'unknown', reason: 'no answer' } : { kind: 'applied' }
      },
    })
    await (await numbersTo({ records: 10, disk, sinks: { out: [sink] } })).done
    expect(seen.slice(0, 3)).toEqual([1, 2, 3])
  })

  test('receipts are kept with what they are for, and given back at the next start', async () => {
    const given: (string | undefined)[] = []
    const disk = new MemoryDisk()
    const make = () =>
      countingSink({
        attach: async (_, receipt) => void given.push(receipt),
        answer: async ({ name }) => ({ kind: 'applied', receipt: `after ${name}` }),
      })
    const first = make()
    await (await numbersTo({ records: 10, disk, sinks: { out: [first] } })).done
    await (await numbersTo({ records: 10, disk, sinks: { out: [make()] } })).done
    expect(given).toEqual([undefined, `after ${first.requests.at(-1)!.name}`])
  })
})

describe('a group', () => {
  const group = { rows: 100_000, bytes: 1_000_000 }

  /** A sink that is slow at first, so that batches pile up and are grouped. */
  function piling(disk: MemoryDisk, answer: (name: string, call: number) => Answer) {
    let calls = 0
    const stored: string[][] = []
    const sink = countingSink({
      group,
      limit: { rows: 100 },
      async answer({ name }) {
        const { batches } = disk.task(disk.tasks()[0]!)!
        stored.push([...batches].filter(([, batch]) => batch.group === name).map(([member]) => member))
        return answer(name, calls++)
      },
    })
    return { sink, stored }
  }

  test('is recorded before it is sent, goes in order, and is removed whole', async () => {
    const disk = new MemoryDisk()
    const { sink, stored } = piling(disk, () => ({ kind: 'applied' }))
    const status = await (await numbersTo({ records: 5_000, disk, sinks: { out: [sink] } })).done
    const grouped = sink.requests.findIndex(({ name }) => name.includes('/group/'))
    expect(grouped).toBeGreaterThanOrEqual(0)
    expect(stored[grouped]!.length).toBeGreaterThan(1)
    expect(numbersOf(sink)).toEqual(upTo(5_000))
    expect(status.sinks.out!.batches).toBeGreaterThan(sink.requests.length)
  })

  test('that is refused is taken apart for good: after a restart its members still go one by one', async () => {
    const disk = new MemoryDisk()
    let refused: string | undefined
    const { sink } = piling(disk, (name) => {
      if (name.includes('/group/')) refused ??= name
      if (name === refused) return { kind: 'rejected', retry: 'never', reason: 'a row of it is wrong' }
      // the first member alone: it takes effect, but nobody hears of it
      return refused === undefined ? { kind: 'applied' } : { kind: 'unknown', reason: 'no answer', took: true }
    })
    const worker = await numbersTo({ records: 5_000, disk, sinks: { out: [sink] } })
    await until(() => sink.requests.at(-1)?.afterUnknown === true)
    disk.crash()
    void worker.abort()
    const after = countingSink({ group, limit: { rows: 100 } })
    await (await numbersTo({ records: 5_000, disk, sinks: { out: [after] } })).done
    expect(after.requests.some(({ name }) => name === refused)).toBe(false)
    const both = [...numbersOf(sink), ...numbersOf(after).filter((n) => !numbersOf(sink).includes(n))]
    expect(both).toEqual(upTo(5_000))
    expect(after.requests[0]!.name).toBe(sink.requests.at(-1)!.name)
  })

  test('of a sink that knows each row is not recorded; after a crash its members go one by one, the unknown one as such', async () => {
    const disk = new MemoryDisk()
    const rowwise = { ...group, rowwise: true }
    const stored: string[] = []
    let grouped: string | undefined
    const sink = countingSink({
      group: rowwise,
      limit: { rows: 100 },
      async answer({ name }) {
        for (const [, batch] of disk.task(disk.tasks()[0]!)!.batches) if (batch.group) stored.push(batch.group)
        if (name.includes('/group/')) grouped ??= name
        return grouped === undefined ? { kind: 'applied' } : { kind: 'unknown', reason: 'no answer', took: true }
      },
    })
    const worker = await numbersTo({ records: 5_000, disk, sinks: { out: [sink] } })
    await until(() => sink.requests.filter(({ name }) => name === grouped).length > 1)
    disk.crash()
    void worker.abort()
    const [first, again] = sink.requests.filter(({ name }) => name === grouped)
    expect([again!.rows, again!.afterUnknown]).toEqual([first!.rows, true])
    expect(Buffer.compare(first!.body, again!.body)).toBe(0)
    const after = countingSink({ group: rowwise, limit: { rows: 100 } })
    await (await numbersTo({ records: 5_000, disk, sinks: { out: [after] } })).done
    expect(stored).toEqual([])
    const missing = first!.rows / 100
    expect(missing).toBeGreaterThan(1)
    expect(after.requests.slice(0, missing)).toMatchObject(
      Array.from({ length: missing }, () => ({ rows: 100, afterUnknown: true })),
    )
    const both = [...numbersOf(sink), ...numbersOf(after).filter((n) => !numbersOf(sink).includes(n))]
    expect(both).toEqual(upTo(5_000))
  })
})
