import { spawnSync } from 'node:child_process'
import { appendFile, mkdir, mkdtemp, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Delivery, OpenSink, Outcome } from '../../core/sink.ts'
import type { ConnectorContext } from '../../core/source.ts'
import { csvRow } from '../../sinks/csv.ts'
import { type FileOptions, file } from '../../sinks/file.ts'
import { killedWriter } from '../support/killed-writer.ts'
import { connectorContext, sinkSuite, staged } from '../support/sink-suite.ts'
import { ROWS, TASK, writerBatch, writerSink } from '../support/sink-writer.ts'

interface Order {
  readonly id: number
  readonly note: string | null
}

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-file-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const never = new AbortController().signal
const order = (id: number): Order => ({ id, note: `line\nbreak, "quote" ü ${id}` })
const orders = (from: number, count: number) => Array.from({ length: count }, (_, n) => order(from + n))
const TASK_0 = 'suite/main/0'

async function parsed(path: string): Promise<unknown[]> {
  const text = await readFile(path, 'utf8')
  expect(text === '' || text.endsWith('\n')).toBe(true)
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

async function opened(options: Partial<FileOptions<Order>> = {}, context: Partial<ConnectorContext> = {}) {
  const sink = file<Order>({ path: join(folder, 'out/orders.jsonl'), ...options })
  return sink.open(connectorContext(join(folder, 'data'), { output: 'orders', ...context }))
}

const batch = (open: OpenSink<Order>, n: number, rows = orders(n * 10, 10), task = TASK_0): Delivery =>
  staged(open, rows, { name: `life/${task}/${n}/sink/0`, task })

function receiptOf(outcome: Outcome): string {
  if (outcome.kind !== 'applied') throw new Error(JSON.stringify(outcome))
  return outcome.receipt!
}

sinkSuite<Order>('file', async () => ({
  sink: () => file<Order>({ path: join(folder, 'orders.jsonl') }),
  context: connectorContext(join(folder, 'data')),
  rows: (count) => orders(0, count),
  read: () => parsed(join(folder, 'orders-0.jsonl')),
  unencodable: (() => undefined) as never,
  close: async () => undefined,
}))

sinkSuite<Order>('file as CSV', async () => ({
  sink: () => file<Order>({ path: join(folder, 'orders.csv'), columns: ['id'] }),
  context: connectorContext(join(folder, 'data')),
  rows: (count) => orders(0, count),
  async read() {
    const [header, ...rows] = (await readFile(join(folder, 'orders-0.csv'), 'utf8').catch(() => '')).trim().split('\n')
    expect(['id', '']).toContain(header)
    return rows.map(Number)
  },
  shown: (row) => row.id,
  unencodable: 'text' as never,
  close: async () => undefined,
}))

test('each partition has a file of its own', async () => {
  const open = await opened()
  for (const partition of [0, 11]) {
    await open.attach!(`suite/main/${partition}`, undefined)
    await open.deliver(batch(open, partition, orders(partition, 1), `suite/main/${partition}`), never)
  }
  await open.close()
  expect(await parsed(join(folder, 'out/orders-0.jsonl'))).toEqual([order(0)])
  expect(await parsed(join(folder, 'out/orders-11.jsonl'))).toEqual([order(11)])
})

test('wherever a life ends, between write and answer or torn in a line, each row is there once and in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          rows: fc.nat({ max: 5 }),
          answered: fc.boolean(),
          torn: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
        }),
        { maxLength: 8 },
      ),
      async (batches) => {
        await rm(folder, { recursive: true, force: true })
        const path = join(folder, 'out/orders-0.jsonl')
        let receipt: string | undefined
        let open = await opened()
        await open.attach!(TASK_0, receipt)
        const written: Order[] = []
        for (const [n, { rows: count, answered, torn }] of batches.entries()) {
          const rows = orders(n * 10, count)
          const delivery = batch(open, n, rows)
          if (torn !== null) {
            // A life that wrote a part of the batch, and was killed.
            await appendFile(path, delivery.body.subarray(0, Math.floor(torn * delivery.body.length)))
          }
          const outcome = await open.deliver(delivery, never)
          if (!answered) {
            await open.close()
            open = await opened()
            await open.attach!(TASK_0, receipt)
            receipt = receiptOf(await open.deliver({ ...batch(open, n, rows), afterUnknown: true }, never))
          } else receipt = receiptOf(outcome)
          written.push(...rows)
        }
        await open.close()
        expect(await parsed(path)).toEqual(written)
      },
    ),
    { numRuns: 40 },
  )
})

test('after a kill -9 in the middle of its writing no line is torn, and delivered again each row is there once', async () => {
  const context = connectorContext(join(folder, 'data'), { pipeline: 'writer', output: 'sink' })
  const { batches, receipt } = await killedWriter('file', context.dataDir, 15)
  const open = await writerSink('file', context.dataDir).open(context)
  await open.attach!(TASK, receipt)
  const path = join(context.dataDir, 'out/rows-0.jsonl')
  expect(await parsed(path)).toHaveLength(batches * ROWS)
  for (let n = batches; n < batches + 2; n++) await open.deliver({ ...writerBatch(open, n), afterUnknown: true }, never)
  await open.close()
  const ids = (await parsed(path)).map((row) => (row as { id: string }).id)
  expect(ids).toEqual(Array.from({ length: (batches + 2) * ROWS }, (_, n) => `row-${n}`))
})

test('a crash before the first receipt leaves nothing behind', async () => {
  const first = await opened()
  await first.attach!(TASK_0, undefined)
  await first.deliver(batch(first, 0), never)
  await first.close()
  const second = await opened()
  await second.attach!(TASK_0, undefined)
  expect(await parsed(join(folder, 'out/orders-0.jsonl'))).toEqual([])
  await second.close()
})

test('a file that was there before is not touched', async () => {
  await mkdir(join(folder, 'out'))
  const path = join(folder, 'out/orders-0.jsonl')
  await writeFile(path, 'precious\n')
  const open = await opened()
  await expect(open.attach!(TASK_0, undefined)).rejects.toMatchObject({
    code: 'SINK_FAILED',
    message: expect.stringContaining(path),
  })
  expect(await readFile(path, 'utf8')).toBe('precious\n')
  await open.close()
})

test('a receipt of another path begins a new file, and leaves the old one as it is', async () => {
  const first = await opened()
  await first.attach!(TASK_0, undefined)
  const receipt = receiptOf(await first.deliver(batch(first, 0), never))
  await first.close()
  const moved = await opened({ path: join(folder, 'out/other.jsonl') })
  await moved.attach!(TASK_0, receipt)
  await moved.deliver(batch(moved, 1), never)
  await moved.close()
  expect(await parsed(join(folder, 'out/orders-0.jsonl'))).toEqual(orders(0, 10))
  expect(await parsed(join(folder, 'out/other-0.jsonl'))).toEqual(orders(10, 10))
})

test('a file that is shorter than its receipt, or was taken away, is refused with its path', async () => {
  const path = join(folder, 'out/orders-0.jsonl')
  const open = await opened()
  await open.attach!(TASK_0, undefined)
  const receipt = receiptOf(await open.deliver(batch(open, 0), never))
  await truncate(path, 20)
  expect(await open.deliver(batch(open, 1), never)).toMatchObject({
    kind: 'rejected',
    retry: 'later',
    reason: expect.stringContaining(path),
  })
  await rename(path, `${path}.old`)
  expect(await open.deliver(batch(open, 1), never)).toMatchObject({
    kind: 'rejected',
    reason: expect.stringContaining('taken away'),
  })
  await open.close()
  const again = await opened()
  const message = expect.stringContaining(`${path} has 0 bytes, and`)
  await expect(again.attach!(TASK_0, receipt)).rejects.toMatchObject({ code: 'SINK_CHANGED', message })
  await again.close()
})

test('a file that another took the place of gets no rows that nobody would find', async () => {
  const path = join(folder, 'out/orders-0.jsonl')
  const open = await opened()
  await open.attach!(TASK_0, undefined)
  await open.deliver(batch(open, 0), never)
  await rename(path, `${path}.old`)
  await writeFile(path, await readFile(`${path}.old`))
  expect(await open.deliver(batch(open, 1), never)).toMatchObject({ kind: 'rejected', retry: 'later' })
  expect(await parsed(path)).toEqual(orders(0, 10))
  await open.close()
})

test('what is beyond the last answer is cut off, also when a smaller batch takes the place of a failed one', async () => {
  const open = await opened()
  await open.attach!(TASK_0, undefined)
  await open.deliver(batch(open, 0), never)
  const path = join(folder, 'out/orders-0.jsonl')
  await appendFile(path, batch(open, 1, orders(10, 50)).body)
  await open.deliver(batch(open, 2, orders(10, 1)), never)
  expect(await parsed(path)).toEqual(orders(0, 11))
  await open.close()
})

test('two sinks of one process cannot write one file, and one may after the other', async () => {
  const first = await opened()
  const second = await opened()
  await first.attach!(TASK_0, undefined)
  await expect(second.attach!(TASK_0, undefined)).rejects.toMatchObject({ code: 'SINK_FAILED' })
  await second.close()
  await expect(first.attach!(TASK_0, undefined)).resolves.toBeUndefined()
  await first.close()
  const third = await opened()
  await expect(third.attach!(TASK_0, undefined)).resolves.toBeUndefined()
  await third.close()
})

test('a full disk is told, nothing of the batch is left, and it goes in when there is room', async ({ skip }) => {
  const disk = join(folder, 'disk')
  await mkdir(disk)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', disk])
  if (mounted.status !== 0) skip('a file system of its own cannot be mounted here, so a full disk was not tried')
  try {
    const open = await opened({ path: join(disk, 'orders.jsonl') })
    await open.attach!(TASK_0, undefined)
    await open.deliver(batch(open, 0), never)
    await writeFile(join(disk, 'other'), Buffer.alloc(40_000))
    const large = batch(open, 1, orders(10, 800))
    expect(await open.deliver(large, never)).toMatchObject({
      kind: 'rejected',
      retry: 'later',
      reason: expect.stringContaining('ENOSPC'),
    })
    expect(await parsed(join(disk, 'orders-0.jsonl'))).toEqual(orders(0, 10))
    await rm(join(disk, 'other'))
    expect((await open.deliver(large, never)).kind).toBe('applied')
    expect(await parsed(join(disk, 'orders-0.jsonl'))).toEqual(orders(0, 810))
    await open.close()
  } finally {
    spawnSync('umount', [disk])
  }
})

test('a CSV has its header once, and reads back as what was written', async () => {
  const options = { path: join(folder, 'out/orders.csv'), columns: ['id', 'note'] as const }
  const path = join(folder, 'out/orders-0.csv')
  let open = await opened(options)
  await open.attach!(TASK_0, undefined)
  await open.deliver(batch(open, 0, [{ id: 1, note: 'a "b", c\r\nd' }]), never)
  const receipt = receiptOf(await open.deliver(batch(open, 1, [{ id: 2, note: '' }]), never))
  await open.close()
  open = await opened(options)
  await open.attach!(TASK_0, receipt)
  await open.deliver(batch(open, 2, [{ id: 3, note: null }]), never)
  await open.close()
  expect(await readFile(path, 'utf8')).toBe('id,note\n1,"a ""b"", c\r\nd"\n2,""\n3,\n')
})

test('columns that changed are refused, and a batch of the former ones is not mixed in', async () => {
  const path = join(folder, 'out/orders.csv')
  const first = await opened({ path, columns: ['id', 'note'] })
  const former = batch(first, 0)
  await first.attach!(TASK_0, undefined)
  await first.deliver(former, never)
  const receipt = receiptOf(await first.deliver(batch(first, 1), never))
  await first.close()
  const second = await opened({ path, columns: ['note', 'id'] })
  await expect(second.attach!(TASK_0, receipt)).rejects.toMatchObject({
    code: 'SINK_CHANGED',
    message: expect.stringContaining('columns'),
  })
  await second.attach!('suite/main/1', undefined)
  await second.deliver(batch(second, 2, orders(0, 1), 'suite/main/1'), never)
  expect(await second.deliver({ ...former, task: 'suite/main/1' }, never)).toMatchObject({
    kind: 'rejected',
    retry: 'later',
  })
  await second.close()
})

test('any cells of a CSV come back from a reader that follows RFC 4180', () => {
  const cells = fc.array(
    fc.oneof(
      fc.string({ unit: fc.constantFrom('a', ',', '"', '\n', '\r', ' ', 'ü') }),
      fc.integer(),
      fc.constant(null),
    ),
    { minLength: 1, maxLength: 5 },
  )
  fc.assert(
    fc.property(fc.array(cells, { minLength: 1, maxLength: 5 }), (rows) => {
      expect(readCsv(rows.map(csvRow).join(''))).toEqual(
        rows.map((row) => row.map((cell) => (cell === null ? null : String(cell)))),
      )
    }),
  )
  expect(csvRow(['a\nb', 'a\rb', ' a', 'a '])).toBe('"a\nb","a\rb"," a","a "\n')
  expect(csvRow([new Date(0), { a: [1] }, true, undefined, 7n])).toBe(
    '1970-01-01T00:00:00.000Z,"{""a"":[1]}",true,,7\n',
  )
})

test('wrong options are refused when the pipeline is built, with what was wanted and what came', () => {
  const build = (options: object) => () => file<Order>({ path: 'x.jsonl', ...options } as FileOptions<Order>)
  expect(build({ path: '', name: 'orders' })).toThrow('file "orders": path must be the path of a file, got \'\'')
  expect(build({ format: 'xml' })).toThrow("file \"file\": format must be 'jsonl' or 'csv', got 'xml'")
  expect(build({ path: 'x.csv' })).toThrow('columns must be a list of different field names for a CSV, got undefined')
  expect(build({ path: 'x.csv', columns: ['a', 'a'] })).toThrow('columns must be')
  expect(build({ columns: ['a'] })).toThrow('columns must be absent for JSONL')
})

/** A reader of CSV, for the test: null where a cell is nothing at all. */
function readCsv(text: string): (string | null)[][] {
  const rows: (string | null)[][] = []
  const row: (string | null)[] = []
  for (let at = 0; at < text.length; ) {
    let cell: string | null = null
    if (text[at] === '"') {
      cell = ''
      for (at++; !(text[at] === '"' && text[at + 1] !== '"'); at++) {
        if (text[at] === '"') at++
        cell += text[at]
      }
      at++
    } else while (!',\n'.includes(text[at]!)) cell = (cell ?? '') + text[at++]
    row.push(cell)
    if (text[at++] === '\n') rows.push(row.splice(0))
  }
  return rows
}
