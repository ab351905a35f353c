import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import type { Logger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { OpenSink } from '../../core/sink.ts'
import type { ConnectorContext } from '../../core/source.ts'
import { type CapturedMessage, pathOf } from '../../sinks/esp/message.ts'
import { readOutbox } from '../../sinks/esp/outbox.ts'
import { preview } from '../../sinks/esp/preview.ts'
import { type EspOptions, esp } from '../../sinks/esp.ts'
import { killedWriter } from '../support/killed-writer.ts'
import { connectorContext, rowMeta, sinkSuite, staged } from '../support/sink-suite.ts'
import { ROWS, writerBatch, writerSink } from '../support/sink-writer.ts'

interface Cart {
  readonly who: string
  readonly items: readonly unknown[]
  readonly why?: string
}

const folders: string[] = []
const folder = async () => {
  const made = await mkdtemp(join(tmpdir(), 'millrace-esp-'))
  folders.push(made)
  return made
}
afterEach(async () => {
  for (const made of folders.splice(0)) await rm(made, { recursive: true, force: true })
})

const never = new AbortController().signal
const cart = (n: number): Cart => ({ who: `person-${n}@example.com`, items: [{ title: `Item ${n}`, price: n }] })
const emails = (options: Partial<EspOptions<Cart>> = {}) =>
  esp<Cart>({
    event: 'Cart Abandoned',
    recipient: (row) => row.who,
    properties: (row) => ({ items: row.items }),
    expiresAfter: '6h',
    ...options,
  })

/** The files of the outbox with this ending, by their paths in it, in order. */
async function files(dataDir: string, ending: string): Promise<string[]> {
  const all = await readdir(join(dataDir, 'outbox'), { recursive: true })
  return all.filter((path) => path.endsWith(ending) && path !== 'index.html').sort()
}

async function messages(dataDir: string): Promise<CapturedMessage[]> {
  const texts = (await files(dataDir, '.json')).map((path) => readFile(join(dataDir, 'outbox', path), 'utf8'))
  return (await Promise.all(texts)).map((text) => JSON.parse(text))
}

/** Opens, delivers these rows as one batch, and closes: one life of a pipeline. */
async function deliver(
  dataDir: string,
  rows: readonly Cart[],
  { first = 0, ...options }: Partial<EspOptions<Cart>> & { first?: number } = {},
  context: Partial<ConnectorContext> = {},
) {
  const open = await emails(options).open(connectorContext(dataDir, { output: 'emails', ...context }))
  const outcome = await open.deliver(staged(open, rows, { first }), never)
  await open.close()
  return outcome
}

sinkSuite<Cart>('esp', async () => {
  const dataDir = await folder()
  return {
    sink: () => emails(),
    context: connectorContext(dataDir, { output: 'emails' }),
    rows: (count) => Array.from({ length: count }, (_, n) => cart(n)),
    read: async () => {
      const names = await files(dataDir, '.json').catch(() => [])
      expect(await files(dataDir, '.html').catch(() => [])).toHaveLength(names.length)
      if (names.length === 0) return []
      return (await messages(dataDir)).map(({ recipient, properties }) => ({ who: recipient, ...properties }))
    },
    unencodable: { who: '', items: [] },
    close: async () => undefined,
  }
})

test('a message is a file of JSON and a page, named for when it was caused and its send key', async () => {
  const dataDir = await folder()
  const runtime = { ...systemRuntime, now: () => 1_700_000_060_000 }
  expect(await deliver(dataDir, [cart(1)], {}, { runtime })).toEqual({ kind: 'applied' })
  const [message] = await messages(dataDir)
  expect(message).toEqual({
    key: expect.stringMatching(/^[0-9a-f]{32}$/),
    event: 'Cart Abandoned',
    recipient: 'person-1@example.com',
    time: 1_700_000_000_000,
    expiresAt: 1_700_021_600_000,
    cause: 'Cart Abandoned, suite/0/0',
    pipeline: 'suite',
    sink: 'emails',
    capturedAt: 1_700_000_060_000,
    expired: false,
    properties: { items: [{ title: 'Item 1', price: 1 }] },
  })
  const path = `emails/2023-11-14/221320-${message!.key.slice(0, 16)}`
  expect(await files(dataDir, '.json')).toEqual([`${path}.json`])
  const page = await readFile(join(dataDir, 'outbox', `${path}.html`), 'utf8')
  for (const said of [
    'Cart Abandoned',
    'person-1@example.com',
    'Item 1',
    'suite/0/0',
    message!.key,
    'Tue, 14 Nov 2023',
  ])
    expect(page).toContain(said)
  expect(page).not.toContain('A live run would not have sent')
})

test('one cause is one message: in another life, from a lost store, in any order, however often', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 }), {
        minLength: 1,
        maxLength: 5,
      }),
      async (batches) => {
        const dataDir = await folder()
        const open = await emails().open(connectorContext(dataDir, { output: 'emails' }))
        for (const batch of batches) {
          // A row's cause is its number, wherever it comes.
          const texts = batch.map((n) => open.encoder('t').row(cart(n), rowMeta(n)))
          await open.deliver({ ...staged(open, []), body: Buffer.from(texts.join('')), rows: batch.length }, never)
        }
        await open.close()
        const sent = (await messages(dataDir)).map(({ recipient }) => recipient).sort()
        expect(sent).toEqual([...new Set(batches.flat())].map((n) => cart(n).who).sort())
      },
    ),
    { numRuns: 15 },
  )
})

test('another cause, another event or another output is another message to the same person', async () => {
  const dataDir = await folder()
  await deliver(dataDir, [cart(1)], { first: 0 })
  await deliver(dataDir, [cart(1)], { first: 1 })
  await deliver(dataDir, [cart(1)], { event: () => 'Still there?' })
  await deliver(dataDir, [cart(1)], {}, { output: 'reminders' })
  await deliver(dataDir, [cart(1)], {}, { pipeline: 'other' })
  await deliver(dataDir, [cart(1)], { name: 'emails' }, { output: 'renamed' })
  expect(await messages(dataDir)).toHaveLength(5)
  expect(readOutbox({ dataDir }).total).toBe(5)
  expect(readOutbox({ dataDir, pipeline: 'suite', sink: 'reminders' }).total).toBe(1)
})

test('of two messages with one cause the first is kept, and a warning without what they say names it', async () => {
  const dataDir = await folder()
  const warned: [object, string][] = []
  const logger: Logger = { debug() {}, info() {}, warn: (...said) => warned.push(said), error() {} }
  const cause = (row: Cart) => row.why!
  const rows = [
    { who: 'a@example.com', items: ['first'], why: 'order 1' },
    { who: 'a@example.com', items: ['first'], why: 'order 1' },
    { who: 'a@example.com', items: ['second'], why: 'order 1' },
    { who: 'a@example.com', items: ['third'], why: 'order 2' },
  ]
  await deliver(dataDir, rows, { cause, first: 86_400_000 }, { logger })
  expect((await messages(dataDir)).map(({ properties }) => properties.items).sort()).toEqual([['first'], ['third']])
  expect(warned).toHaveLength(1)
  const { kept } = warned[0]![0] as { kept: string }
  expect(await readFile(join(dataDir, 'outbox', kept), 'utf8')).toContain('first')
  expect(JSON.stringify(warned)).not.toMatch(/second|a@example/)
})

test('what a live run would drop as expired is captured all the same, and marked everywhere', async () => {
  const dataDir = await folder()
  const at = (now: number) => ({ runtime: { ...systemRuntime, now: () => now } })
  await deliver(dataDir, [cart(1)], {}, at(1_700_000_000_000 + 6 * 3_600_000))
  await deliver(dataDir, [cart(2)], {}, at(1_700_000_000_001 + 6 * 3_600_000))
  await deliver(dataDir, [cart(1)], {}, at(1_800_000_000_000))
  const expired = Object.fromEntries((await messages(dataDir)).map((each) => [each.recipient, each.expired]))
  expect(expired).toEqual({ 'person-1@example.com': false, 'person-2@example.com': true })
  expect(readOutbox({ dataDir })).toMatchObject({ total: 2, expired: 1 })
  const [late] = readOutbox({ dataDir }).messages.filter((each) => each.expired)
  expect(await readFile(late!.file.replace(/json$/, 'html'), 'utf8')).toContain('A live run would not have sent')
  expect(await readFile(join(dataDir, 'outbox/index.html'), 'utf8')).toContain('2 messages, 1 of them expired')
  expect(await readFile(join(dataDir, 'outbox/index.html'), 'utf8')).toContain('Expired: it was past its time')
})

test('a live run is refused, for want of a provider, before anything is made', async () => {
  const dataDir = await folder()
  const live = emails().open(connectorContext(dataDir, { live: true, output: 'emails' }))
  await expect(live).rejects.toMatchObject({
    code: 'STAND_IN_REFUSED',
    message: expect.stringContaining('esp "emails"'),
  })
  expect(await readdir(dataDir)).toEqual([])
})

test('a crash between the list and the files is mended when the batch is delivered again', async () => {
  const dataDir = await folder()
  await deliver(dataDir, [cart(1), cart(2)])
  const before = await messages(dataDir)
  for (const path of [...(await files(dataDir, '.json')), ...(await files(dataDir, '.html'))].slice(1))
    await rm(join(dataDir, 'outbox', path))
  await deliver(dataDir, [cart(1), cart(2)])
  expect(await messages(dataDir)).toEqual(before)
  expect(await files(dataDir, '.html')).toHaveLength(2)
})

test('the listing shows the newest first, at most 500, with exact counts, and is made once a second and at the end', async () => {
  const dataDir = await folder()
  const sleeps: number[] = []
  const runtime = {
    ...systemRuntime,
    elapsed: () => 5_000,
    sleep: (ms: number, signal?: AbortSignal) => {
      if (ms === 0) return Promise.resolve()
      sleeps.push(ms)
      return new Promise<void>((done) => signal?.addEventListener('abort', () => done()))
    },
  }
  const open: OpenSink<Cart> = await emails().open(connectorContext(dataDir, { runtime, output: 'emails' }))
  const listing = () => readFile(join(dataDir, 'outbox/index.html'), 'utf8')
  for (let n = 0; n < 6; n++) {
    const rows = Array.from({ length: 100 }, (_, i) => cart(n * 100 + i))
    await open.deliver(staged(open, rows, { first: n * 100 }), never)
  }
  expect(await listing()).toMatch(/<strong>[1-5]00 messages/)
  expect(sleeps).toEqual([1_000])
  await open.close()
  const page = await listing()
  expect(page).toContain('<strong>600 messages</strong>')
  const listed = [...page.matchAll(/person-(\d+)@/g)].map(([, n]) => Number(n))
  expect(listed).toEqual(Array.from({ length: 500 }, (_, n) => 599 - n))
  const links = [...page.matchAll(/href="([^"]+)"/g)].map(([, path]) => join(dataDir, 'outbox', path!))
  expect(links.every(existsSync)).toBe(true)
})

test('nothing that a message says becomes part of the page', () => {
  const hostile = [
    '<x-evil>',
    '"><x-evil>',
    "' onerror='x-evil",
    'javascript:x-evil',
    'https://e.example/"x-evil',
    '&lt;x-evil',
  ]
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom('image', 'url', ...hostile), fc.jsonValue({ maxDepth: 6 }), { maxKeys: 4 }),
      fc.array(fc.constantFrom(...hostile), { minLength: 6, maxLength: 6 }),
      (properties, [event, recipient, cause, pipeline, sink, deep]) => {
        const page = preview({
          key: '0'.repeat(32),
          event: event!,
          recipient: recipient!,
          cause: cause!,
          pipeline: pipeline!,
          sink: sink!,
          time: 0,
          expiresAt: 1,
          capturedAt: 2,
          expired: true,
          properties: {
            ...properties,
            image: deep,
            list: [deep, { image: deep, [deep!]: [deep] }],
            rows: [{ img: deep }],
          },
        })
        expect(page).not.toContain('<x-evil')
        expect(page).not.toContain('href="javascript')
        expect(page).not.toMatch(/="[^"<]*"x-evil/)
        // Every tag is one of ours, and has only attributes of ours.
        for (const [, tag, attributes] of page.matchAll(/<(\w+)((?:\s[^>]*)?)>/g)) {
          expect(
            'html head meta title style body main header span h1 p strong section h2 dl dt dd table thead tbody tr th td ul li a img code time br footer'.split(
              ' ',
            ),
          ).toContain(tag)
          expect(attributes).toMatch(
            /^(\s(lang|charset|name|content|http-equiv|class|href|rel|src|alt|loading|datetime)="[^"]*")*$/,
          )
        }
      },
    ),
    { numRuns: 300 },
  )
})

test('a text cannot pass for another one by characters that are not seen', () => {
  const text = 'a\u202egpj.exe\u2066\u0000\u200f\ufeff b\tc\nd'
  const page = preview({
    ...{ key: 'k', event: text, recipient: text, cause: text, pipeline: 'p', sink: 's', time: 0, expiresAt: 1 },
    ...{ capturedAt: 2, expired: false, properties: { text, [text]: 1 } },
  })
  expect(page).not.toMatch(/[\u202e\u2066\u0000\u200f\ufeff]/)
  expect(page).toContain('<h1>a\\u202egpj.exe\\u2066\\u0000\\u200f\\ufeff b\tc\nd</h1>')
})

test('a page shows any number of any things, within bounds', () => {
  const message: CapturedMessage = {
    ...{
      key: 'k',
      event: 'e',
      recipient: 'r',
      cause: 'c',
      pipeline: 'p',
      sink: 's',
      time: 0,
      expiresAt: 1,
      capturedAt: 2,
    },
    expired: false,
    properties: {
      rows: Array.from({ length: 5_000 }, (_, n) => ({ n, image: 'https://shop.example/i.png' })),
      long: 'x'.repeat(1_000_000),
      wide: Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [`f${n}`, n])),
    },
  }
  const page = preview(message)
  expect(page.length).toBeLessThan(60_000)
  expect(page).toContain('and 4900 more rows')
  expect(page).toContain('<img src="https://shop.example/i.png"')
})

test('the name of an output cannot lead out of the outbox', () => {
  for (const sink of ['../../etc', '..', '.hidden', 'a/b', 'a\\b', 'ü', ''])
    expect(pathOf({ sink, time: 0, key: '0123456789abcdef' })).toMatch(
      /^[\w-][\w.-]*\/1970-01-01\/000000-0123456789abcdef$/,
    )
})

test('what is no message is refused while the row is made', async () => {
  const bad: Partial<EspOptions<Cart>>[] = [
    { event: () => '' },
    { recipient: () => undefined as never },
    { cause: () => ' ' },
    { properties: () => [] as never },
    { properties: () => ({ n: 1n }) },
  ]
  for (const options of bad) {
    const open = await emails(options).open(connectorContext(await folder()))
    expect(() => open.encoder('t').row(cart(1), rowMeta(0))).toThrow(expect.objectContaining({ code: 'NOT_JSON' }))
    expect(() => open.encoder('t').row(cart(1), { ...rowMeta(0), time: Number.POSITIVE_INFINITY })).toThrow()
    await open.close()
  }
})

test('wrong options are refused when the pipeline is built, with what was wanted and what came', () => {
  const build = (options: object) => () => emails(options as EspOptions<Cart>)
  expect(build({ expiresAfter: '6' })).toThrow(
    "esp \"Cart Abandoned\": expiresAfter must be a positive duration such as '24h', got '6'",
  )
  expect(build({ event: '' })).toThrow("event must be a text or a function of the row, got ''")
  expect(build({ recipient: 'email' })).toThrow("recipient must be a function of the row, got 'email'")
  expect(build({ cause: 7, name: 'mail' })).toThrow('esp "mail": cause must be a function of the row, got 7')
})

test('an outbox that cannot be opened says where and what to do', async () => {
  const dataDir = await folder()
  await writeFile(join(dataDir, 'outbox'), 'in the way')
  const refused = emails().open(connectorContext(dataDir))
  await expect(refused).rejects.toMatchObject({
    code: 'SINK_FAILED',
    message: expect.stringContaining(join(dataDir, 'outbox')),
  })
})

test('after a kill -9 in the middle of its writing, every file is whole, and delivered again each message is there once', async () => {
  const dataDir = await folder()
  const { batches } = await killedWriter('esp', dataDir, 5, 3)
  expect((await messages(dataDir)).length).toBeGreaterThanOrEqual(batches * ROWS)
  const open = await writerSink('esp', dataDir).open(connectorContext(dataDir, { pipeline: 'writer', output: 'sink' }))
  for (let n = batches; n < batches + 2; n++) await open.deliver({ ...writerBatch(open, n), afterUnknown: true }, never)
  await open.close()
  const sent = (await messages(dataDir)).map(({ recipient }) => recipient)
  expect(new Set(sent).size).toBe(sent.length)
  expect(sent).toHaveLength((batches + 2) * ROWS)
  expect(await files(dataDir, '.html')).toHaveLength(sent.length)
})
