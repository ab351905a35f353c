import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { RawRecord, ReadFrom } from '../../core/source.ts'
import { type FileOptions, fileSource, fromFile } from '../../sources/file.ts'
import { connectorContext } from '../support/sink-suite.ts'
import { after, readAll, type SourceUnderTest, sourceSuite } from '../support/source-suite.ts'

const folders: string[] = []
const children: ChildProcess[] = []

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function file(name: string, content: string | Uint8Array): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-file-'))
  folders.push(folder)
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

async function open(options: FileOptions, { untilEnd = true, from }: { untilEnd?: boolean; from?: ReadFrom } = {}) {
  const source = await fileSource(options).open(connectorContext(tmpdir()), { untilEnd })
  const reader = await source.reader(0, from)
  return { reader, decode: source.decode, source }
}

async function valuesOf(options: FileOptions, given: { untilEnd?: boolean; from?: ReadFrom } = {}): Promise<unknown[]> {
  const { reader, decode, source } = await open(options, given)
  try {
    return (await readAll(reader)).map((record) => tried(decode, record))
  } finally {
    await reader.close()
    await source.close()
  }
}

function tried(decode: (record: RawRecord) => unknown, record: RawRecord): unknown {
  try {
    return decode(record)
  } catch (error) {
    return (error as Error).message
  }
}

const LINES = [
  ...Array.from({ length: 12 }, (_, n) => JSON.stringify({ n, text: `line ${n} ${'x'.repeat(n * 7)}` })),
  '{"n":"grün ☂ 𝄞"}',
  'not JSON at all',
  '{"n":"\u00a0"}',
]

function system(
  name: string,
  options: Partial<FileOptions>,
  pack: (text: string) => Uint8Array | string,
): SourceUnderTest {
  const lines = [...LINES]
  const text = () => `${lines.join('\n')}\n`
  const path = file(name, pack(text()))
  const plain = typeof pack('') === 'string'
  return {
    source: () => fileSource({ path, ...options }),
    context: connectorContext(tmpdir()),
    records: () => [lines.map((line) => Buffer.from(line))],
    values: () => lines.map((line) => (line.startsWith('not') ? new Error(line) : JSON.parse(line))),
    ...(options.follow && {
      grow: async () => {
        const line = JSON.stringify({ n: lines.length })
        lines.push(line)
        appendFileSync(path, `${line}\n`)
      },
    }),
    change: async () => writeFileSync(path, pack(text().replace('line 0', 'line o'))),
    cut: async () => {
      const cut = text().slice(0, -LINES.at(-1)!.length - 1)
      if (plain) truncateSync(path, Buffer.byteLength(cut))
      else writeFileSync(path, pack(cut))
    },
    close: async () => undefined,
  }
}

sourceSuite('a file of lines', async () => system('events.jsonl', {}, (text) => text))
sourceSuite('a followed file', async () => system('events.jsonl', { follow: true }, (text) => text))
sourceSuite('an archive', async () => system('events.jsonl.gz', {}, (text) => gzipSync(text)))
sourceSuite('an archive of two members', async () =>
  system('events.gz', {}, (text) => Buffer.concat([gzipSync(text.slice(0, 300)), gzipSync(text.slice(300))])),
)
sourceSuite('a file of CSV', async () => {
  const rows = [
    '1,Lamp,"oak, small"',
    '2,"Ket\ntle",',
    '3,"say ""hi""",x\r',
    '4,5" disk,y',
    '5,too,many,fields',
    '6,é,"a""\n""b"',
  ]
  const path = file('items.csv', `id,name,"look"\r\n${rows.join('\n')}\n`)
  return {
    source: () => fileSource({ path }),
    context: connectorContext(tmpdir()),
    records: () => [rows.map((row) => Buffer.from(row))],
    values: () => [
      { id: '1', name: 'Lamp', look: 'oak, small' },
      { id: '2', name: 'Ket\ntle', look: '' },
      { id: '3', name: 'say "hi"', look: 'x' },
      { id: '4', name: '5" disk', look: 'y' },
      new Error('fields'),
      { id: '6', name: 'é', look: 'a"\n"b' },
    ],
    change: async () => writeFileSync(path, readFileSync(path, 'utf8').replace('Lamp', 'Limp')),
    close: async () => undefined,
  }
})

describe('lines', () => {
  test('the shipped events come out as a plain split and parse gives them', async () => {
    const path = '../shared/data/retailrocket_dirty.jsonl'
    const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1)
    const { reader } = await open({ path })
    expect((await readAll(reader)).map((record) => record.value)).toEqual(lines)
    await reader.close()
  })

  test('blank lines, other line ends, a byte order mark and a last line without its end are all right', async () => {
    const path = file('a.jsonl', '\ufeff{"n":1}\r\n\n  \r\n{"n":2}\n\n{"n":3}')
    expect(await valuesOf({ path })).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
    expect(await valuesOf({ path: file('b.jsonl', '') })).toEqual([])
    expect(await valuesOf({ path: file('c.jsonl', '\n\n') })).toEqual([])
    expect(await valuesOf({ path: file('d.jsonl', '7') })).toEqual([7])
  })

  test('bytes that are no UTF-8 are not replaced: the record does not decode and keeps its bytes', async () => {
    const path = file(
      'a.jsonl',
      Buffer.concat([Buffer.from('{"n":"é"}\n"'), Buffer.from([0xff, 0xc3]), Buffer.from('"\n"ü"\n')]),
    )
    const { reader, decode } = await open({ path })
    const records = await readAll(reader)
    expect(records.map((record) => tried(decode, record))).toEqual([
      { n: 'é' },
      expect.stringContaining('is not UTF-8'),
      'ü',
    ])
    expect([...records[1]!.bytes()]).toEqual([34, 0xff, 0xc3, 34])
    await reader.close()
    expect(
      await valuesOf({ path: file('b.jsonl', Buffer.from([34, 0xe9, 0x80, 34])), encoding: 'windows-1252' }),
    ).toEqual(['é€'])
  })

  test('a record over the bound does not decode, keeps its beginning, and takes no memory; reading goes on after it', async () => {
    const long = `"${'ü'.repeat(1_500_000)}"`
    const path = file('a.jsonl', `1\n${long}\n2\n"${'y'.repeat(200)}"\n3\n${long}`)
    const { reader, decode } = await open({ path, maxRecord: '100B' })
    const records = await readAll(reader)
    const tooLong = expect.stringContaining('is longer than 100 bytes')
    expect(records.map((record) => tried(decode, record))).toEqual([1, tooLong, 2, tooLong, 3, tooLong])
    expect(records.map((record) => record.bytes().length)).toEqual([1, 65_536, 1, 202, 1, 65_536])
    await reader.close()
    for (const [i, record] of records.entries()) {
      const rest = await valuesOf({ path, maxRecord: '100B' }, { from: after(record) })
      expect(rest).toHaveLength(records.length - 1 - i)
    }
    expect(await valuesOf({ path, maxRecord: '4MB' })).toEqual([
      1,
      JSON.parse(long),
      2,
      'y'.repeat(200),
      3,
      JSON.parse(long),
    ])
  })

  test('lines that lie across the pieces of a large file come out whole', async () => {
    const lines = Array.from(
      { length: 40_000 },
      (_, n) => `{"n":${n},"s":"${(n % 97 === 0 ? 'é' : 'e').repeat(n % 150)}"}`,
    )
    const { reader, decode } = await open({ path: file('a.jsonl', lines.join('\n')) })
    const records = await readAll(reader, [{ records: 3_001, bytes: 1e6 }])
    expect(records.map(decode)).toEqual(lines.map((line) => JSON.parse(line)))
    await reader.close()
  })

  test('a last line that was read without its end may get one, and may not grow', async () => {
    const path = file('a.jsonl', '1\n22')
    const { reader } = await open({ path })
    const from = after((await readAll(reader))[1]!)
    await reader.close()
    expect(await valuesOf({ path }, { from })).toEqual([])
    appendFileSync(path, '\n3\n')
    expect(await valuesOf({ path }, { from })).toEqual([3])
    writeFileSync(path, '1\n2234\n')
    await expect(valuesOf({ path }, { from })).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringContaining('has grown'),
    })
  })
})

describe('a file that is followed', () => {
  test('gives its last line when its end has come, and not before', async () => {
    const path = file('a.jsonl', '1\n2')
    const { reader, decode } = await open({ path, follow: true }, { untilEnd: false })
    expect((await readAll(reader)).map(decode)).toEqual([1])
    appendFileSync(path, '34')
    await reader.more(new AbortController().signal)
    expect(await readAll(reader)).toEqual([])
    appendFileSync(path, '5\n6\n')
    await reader.more(new AbortController().signal)
    expect((await readAll(reader)).map(decode)).toEqual([2345, 6])
    await reader.close()
    expect(await valuesOf({ path: file('b.jsonl', '1\n2'), follow: true })).toEqual([1])
    expect(await valuesOf({ path: file('b.csv', 'a\n1\n2'), follow: true })).toEqual([{ a: '1' }])
  })

  test.each([
    ['was cut', (path: string) => truncateSync(path, 2)],
    ['was cut and has grown beyond', (path: string) => writeFileSync(path, '9\n9\n9\n9\n9\n')],
    [
      'is another',
      (path: string) => {
        writeFileSync(`${path}.new`, '1\n2\n3\n')
        renameSync(`${path}.new`, path)
      },
    ],
  ])('is refused when it %s', async (_, change) => {
    const path = file('a.jsonl', '1\n2\n3\n')
    const { reader } = await open({ path, follow: true }, { untilEnd: false })
    await readAll(reader)
    change(path)
    await reader.more(new AbortController().signal)
    await expect(readAll(reader)).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringContaining(path),
    })
    await reader.close()
  })
})

describe('archives', () => {
  const text = Array.from({ length: 20_000 }, (_, n) => `{"n":${n},"r":${(n * 7_919) % 10_007}}`).join('\n')
  const whole = gzipSync(`${text}\n`)

  async function readBroken(bytes: Uint8Array) {
    const { reader, decode } = await open({ path: file('a.gz', bytes) })
    const values: unknown[] = []
    let failure: unknown
    try {
      for (
        let records = await reader.read({ records: 100, bytes: 1e6 });
        records;
        records = await reader.read({ records: 100, bytes: 1e6 })
      ) {
        values.push(...records.map((record) => tried(decode, record)))
      }
    } catch (error) {
      failure = error
    }
    await reader.close()
    return { values, failure }
  }

  test('one that is cut off gives its good lines, and then says so', async () => {
    const { values, failure } = await readBroken(whole.subarray(0, whole.length >> 1))
    expect(values.length).toBeGreaterThan(5_000)
    expect(values).toEqual(text.split('\n', values.length).map((line) => JSON.parse(line)))
    expect(failure).toMatchObject({
      code: 'SOURCE_FAILED',
      retriable: false,
      message: expect.stringContaining('cut off or damaged'),
    })
  })

  test('one that is damaged gives lines of before the damage, and then says so', async () => {
    const damaged = Buffer.from(whole)
    damaged.fill(0xaa, whole.length - 5_000, whole.length - 4_900)
    const { values, failure } = await readBroken(damaged)
    expect(values.slice(0, 15_000)).toEqual(text.split('\n', 15_000).map((line) => JSON.parse(line)))
    expect(failure).toMatchObject({ code: 'SOURCE_FAILED' })
  })

  test('zeros behind it are padding; anything else is damage, never passed over', async () => {
    expect(await readBroken(Buffer.concat([whole, Buffer.alloc(100_000)]))).toMatchObject({
      failure: undefined,
      values: { length: 20_000 },
    })
    const member = gzipSync('"more"\n')
    for (const tail of [
      Buffer.from('rubbish'),
      Buffer.concat([Buffer.alloc(9), member]),
      Buffer.concat([Buffer.alloc(70_000), member]),
    ]) {
      expect((await readBroken(Buffer.concat([whole, tail]))).failure).toMatchObject({ code: 'SOURCE_FAILED' })
    }
  })

  test('cannot be followed', async () => {
    const path = file('a.gz', whole)
    await expect(open({ path, follow: true })).rejects.toMatchObject({ code: 'BAD_OPTION' })
  })
})

describe('CSV', () => {
  test('rows written as RFC 4180 has them come back, at any cut', async () => {
    const cell = fc.oneof(fc.string({ maxLength: 8 }), fc.constantFrom('"', ',', '\n', '\r\n', '""', ' ', 'ü'))
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`
    const row = fc.tuple(cell, cell, fc.boolean())
    await fc.assert(
      fc.asyncProperty(fc.array(row, { maxLength: 8 }), async (rows) => {
        const written = rows.map(
          ([a, b, bare]) => `${quoted(a)},${bare && /^[^",\r\n\s]+$/.test(b) ? b : quoted(b)}\r\n`,
        )
        const values = await valuesOf({ path: file('a.csv', `a,b\n${written.join('')}`) })
        expect(values).toEqual(rows.map(([a, b]) => ({ a, b })))
      }),
      { numRuns: 60 },
    )
  })

  test('another delimiter and encoding, as spreadsheets write them', async () => {
    const path = file('a.csv', Buffer.from('Name;Preis\nGr\xfcn;1,50\n', 'latin1'))
    expect(await valuesOf({ path, delimiter: ';', encoding: 'windows-1252' })).toEqual([
      { Name: 'Grün', Preis: '1,50' },
    ])
  })

  test('the shipped order lines have their fields, and the one that is cut off is set aside', async () => {
    const values = await valuesOf({ path: '../shared/data/online_retail_2010-12.csv', encoding: 'windows-1252' })
    expect(values).toHaveLength(39_530)
    expect(values[0]).toMatchObject({
      InvoiceNo: '536365',
      Description: 'WHITE HANGING HEART T-LIGHT HOLDER',
      UnitPrice: '2.55',
    })
    expect(values.filter((value) => typeof value === 'string')).toEqual([expect.stringContaining('fields')])
  })

  test('a quote that never closes costs one record of the bounded size, not the rest of the file', async () => {
    const rows = Array.from({ length: 30_000 }, (_, n) => `${n},text ${n}`)
    rows[2] = '2,"open'
    const values = await valuesOf({ path: file('a.csv', `a,b\n${rows.join('\n')}\n`), maxRecord: '1KB' })
    expect(values.length).toBeGreaterThan(29_900)
    expect(values.filter((value) => typeof value === 'string')).toHaveLength(1)
    expect(values.at(-1)).toEqual({ a: '29999', b: 'text 29999' })
  })

  test.each(['a,a\n1,2\n', 'a,\n1,2\n', '__proto__\n1\n'])(
    'a header that does not name each column once is refused: %j',
    async (text) => {
      await expect(valuesOf({ path: file('a.csv', text) })).rejects.toMatchObject({ code: 'SOURCE_FAILED' })
    },
  )
})

describe('standard input', () => {
  const script = `
    import { fileSource } from ${JSON.stringify(new URL('../../sources/file.ts', import.meta.url).href)}
    const source = await fileSource({ path: '-' }).open({}, { untilEnd: true })
    const reader = await source.reader(0, { next: 100 })
    for (;;) {
      const records = await reader.read({ records: 10, bytes: 1e6 })
      if (records === null) break
      if (records.length === 0) await reader.more(new AbortController().signal)
      for (const record of records) console.log(JSON.stringify([record.position, record.next, source.decode(record)]))
    }
    await reader.close()
    await source.close()`

  async function piped(chunks: readonly (string | Uint8Array)[]): Promise<unknown[]> {
    const child = spawn(process.execPath, ['--conditions=source', '--input-type=module', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    children.push(child)
    let out = ''
    child.stdout!.on('data', (chunk) => (out += chunk))
    for (const chunk of chunks) {
      child.stdin!.write(chunk)
      await new Promise((resolve) => setImmediate(resolve))
    }
    child.stdin!.end()
    expect(await once(child, 'close')).toEqual([0, null])
    return out
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line))
  }

  test('comes in pieces, ends without a line end, and goes on from the stored position', async () => {
    expect(await piped(['{"n":1}\n{"n', '":2}\n', '\n3'])).toEqual([
      [100, 108, { n: 1 }],
      [108, 116, { n: 2 }],
      [117, 118, 3],
    ])
    expect(await piped([])).toEqual([])
  })

  test('may be an archive', async () => {
    const packed = gzipSync('1\n2\n')
    expect(await piped([packed.subarray(0, 1), packed.subarray(1)])).toEqual([
      [100, 102, 1],
      [102, 104, 2],
    ])
  })
})

describe('options', () => {
  test.each([
    [{ path: '' }, 'path must be'],
    [{ path: 'a', format: 'xml' }, "format must be 'jsonl' or 'csv', got 'xml'"],
    [{ path: 'a', delimiter: ';;' }, 'delimiter must be'],
    [{ path: 'a', delimiter: '"' }, 'delimiter must be'],
    [{ path: 'a', encoding: 'utf-16' }, 'encoding must be'],
    [{ path: 'a', maxRecord: '8' }, 'maxRecord must be'],
    [{ path: 'a', follow: 'yes' }, 'follow must be'],
  ])('%j is refused when the pipeline is built', (options, message) => {
    expect(() => fileSource(options as never)).toThrow(message)
  })

  test('a file that is not there, and a folder, are said so', async () => {
    await expect(open({ path: '/no/such/file.jsonl' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(open({ path: tmpdir() })).rejects.toMatchObject({ code: 'SOURCE_FAILED' })
  })

  test('the name is the file’s, and the ending says the format', async () => {
    expect(fileSource({ path: 'data/shop-events.jsonl.gz' }).name).toBe('shop-events')
    expect(fileSource({ path: '-' }).name).toBe('stdin')
    expect(await valuesOf({ path: file('a.csv.gz', gzipSync('a\n1\n')) })).toEqual([{ a: '1' }])
  })

  test('fromFile is a stream of it', () => {
    const events = fromFile({ path: 'a.jsonl', schema: z.object({ id: z.string() }), key: (e) => e.id, time: () => 0 })
    expect(typeof events.pipe).toBe('function')
  })
})
