import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { pipeline } from '../../core/index.ts'
import { keyBy, map, mapAsync, scan } from '../../operators/index.ts'
import { esp, console as lines, redis } from '../../sinks/index.ts'
import { fromKafka } from '../../sources/index.ts'
import { testPipeline } from '../../testing/index.ts'
import { ROOT } from '../support/project.ts'

const Order = z.object({ who: z.string(), eur: z.coerce.number(), at: z.number() })
const source = () => fromKafka({ topic: 'orders', schema: Order, key: (o) => o.who, time: (o) => o.at })
const T = Date.parse('2026-03-01T10:00Z')

test('rows, what is kept and what would be sent are there, with their types', async () => {
  const orders = source()
  const spent = orders.pipe(scan({ name: 'spent', seed: 0, step: (sum, o) => sum + o.eur, ttl: '30d' }))
  const t = await testPipeline(
    pipeline('orders', {
      all: orders.to(lines()),
      big: orders.pipe(map((o) => BigInt(o.eur))).to(lines()),
      cache: spent.to(redis({ key: () => 'sum', ttl: '1d' })),
      mails: orders.to(
        esp({ event: 'Thanks', recipient: (o) => o.who, properties: (o) => ({ eur: o.eur }), expiresAfter: '1h' }),
      ),
    }),
  )
  await t.feed(orders, [{ who: 'ann', eur: '5', at: T }])
  await t.feed('orders', [{ who: 'ann', eur: 7, at: T + 1 }])
  expectTypeOf(t.rows('all')).toEqualTypeOf<readonly { who: string; eur: number; at: number }[]>()
  expect(t.rows('all')).toEqual([
    { who: 'ann', eur: 5, at: T },
    { who: 'ann', eur: 7, at: T + 1 },
  ])
  expect(t.rows('big')).toEqual([5n, 7n])
  expect(t.rows('cache')).toEqual([5, 12])
  expect(t.state('spent', 'ann')).toBe(12)
  expect(t.state('spent', 'bob')).toBeUndefined()
  expect(t.emails.map(({ output, recipient, properties }) => [output, recipient, properties])).toEqual([
    ['mails', 'ann', { eur: 5 }],
    ['mails', 'ann', { eur: 7 }],
  ])
  await t.everySplit()
})

test('a row that its sink cannot take is a dead letter here, too', async () => {
  const orders = source()
  const t = await testPipeline(
    pipeline('mails', { mails: orders.to(esp({ event: 'x', recipient: () => '', expiresAfter: '1h' })) }),
  )
  await t.feed(orders, [{ who: 'ann', eur: 1, at: T }])
  expect(t.deadLetters).toMatchObject([
    { where: 'mails', reason: expect.stringContaining('recipient must give a text') },
  ])
})

test('everySplit finds what is kept outside the state', async () => {
  let count = 0
  const orders = source()
  const t = await testPipeline(pipeline('counting', { out: orders.pipe(map(() => ++count)).to(lines()) }))
  await t.feed(orders, [
    { who: 'ann', eur: 1, at: T },
    { who: 'ann', eur: 2, at: T + 1 },
  ])
  await expect(t.everySplit()).rejects.toThrow(
    /output "out" is another when it is cut after every record: row 0 is \d+ instead of \d+/,
  )
})

test('asynchronous work and several keys work as in a run, and the clock may be set', async () => {
  const orders = source()
  const t = await testPipeline(
    pipeline('waiting', {
      out: orders
        .pipe(
          keyBy((o) => o.eur),
          mapAsync(async (o, meta) => `${meta.key} ${o.who} ${new Date(meta.now()).toISOString()}`),
        )
        .to(lines()),
    }),
    { start: new Date('2026-05-01T00:00Z') },
  )
  await t.feed(orders, [{ who: 'ann', eur: 1, at: T }])
  expect(t.rows('out')).toEqual(['1 ann 2026-05-01T00:00:00.000Z'])
})

test.each([
  ['an unknown source', (t: any) => t.feed('shop.events', []), /has no source 'shop.events'; it has 'orders'/],
  ['an unknown output', (t: any) => t.rows('mails'), /has no output 'mails'; it has 'out'/],
  [
    'an unknown operator',
    (t: any) => t.state('cart', 'ann'),
    /has no operator with state called 'cart'; it has 'scan'/,
  ],
  ['no duration', (t: any) => t.advance('half an hour'), /advance must be a positive duration/],
])('%s is named', async (_, use, message) => {
  const t = await testPipeline(
    pipeline('orders', {
      out: source()
        .pipe(scan({ seed: 0, step: (n) => n + 1, ttl: '1d' }))
        .to(lines()),
    }),
  )
  await expect((async () => use(t))()).rejects.toThrow(message)
})

test('it works under node:test', async () => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const args = ['--conditions=source', '--test', join(ROOT, 'test/testing/kit.node-test.ts')]
  const { stdout } = await promisify(execFile)(process.execPath, args, { env })
  expect(stdout).toMatch(/pass 1/)
})
