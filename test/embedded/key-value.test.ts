import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import { type KeyValueRow, keyValue } from '../../embedded/key-value.ts'

let folder: string
let now = 0
const runtime = { ...systemRuntime, now: () => now }
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-key-value-'))
  now = 1_000
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const open = (name = 'cache.db') => keyValue({ path: join(folder, name), runtime })
const lines = (rows: readonly KeyValueRow[]) => Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))

test('the newest version of each key wins, in whatever order and however often rows come', async () => {
  let trial = 0
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(
        fc.record({
          key: fc.constantFrom('a', 'b', 'c'),
          version: fc.integer({ min: -20, max: 20 }),
          gone: fc.boolean(),
        }),
        { selector: ({ key, version }) => `${key}${version}`, minLength: 1, maxLength: 12 },
      ),
      fc.array(fc.nat(), { minLength: 30, maxLength: 60 }),
      fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 30, maxLength: 60 }),
      async (changes, order, cuts) => {
        const table = await open(`trial-${trial++}.db`)
        const rows = changes.map(
          ({ key, version, gone }): KeyValueRow =>
            gone ? { key, version, deleted: true } : { key, version, value: version },
        )
        // Every row once at least, in an order of its own, some again.
        const sent = [...order.map((n) => rows[n % rows.length]!), ...rows]
        for (let at = 0, n = 0; at < sent.length; n++) {
          const size = cuts[n % cuts.length]!
          await table.apply(lines(sent.slice(at, at + size)))
          at += size
        }
        for (const key of ['a', 'b', 'c']) {
          const newest = changes.filter((row) => row.key === key).sort((a, b) => b.version - a.version)[0]
          const expected = newest && !newest.gone ? newest.version : undefined
          expect(table.get(key)?.value).toBe(expected)
        }
        await table.close()
      },
    ),
    { numRuns: 25 },
  )
})

test('of two rows with one version the first stays', async () => {
  const table = await open()
  expect(
    await table.apply(
      lines([
        { key: 'a', version: 1, value: 'first' },
        { key: 'a', version: 1, value: 'second' },
      ]),
    ),
  ).toBe(1)
  expect(table.get('a')?.value).toBe('first')
  await table.close()
})

test('a batch applies whole or not at all', async () => {
  const table = await open()
  const body = Buffer.concat([lines([{ key: 'a', version: 1, value: 1 }]), Buffer.from('{"key":')])
  await expect(table.apply(body)).rejects.toThrow()
  expect(table.size()).toBe(0)
  expect(await table.apply(lines([{ key: 'b', version: 1, value: 1 }]))).toBe(1)
  await table.close()
})

test('an expired key is not seen, holds its version until it is forgotten, and is then swept along with writes', async () => {
  const table = await open()
  await table.apply(lines([{ key: 'a', version: 5, value: 1, expiresAt: 2_000, forgetAt: 3_000 }]))
  expect(table.get('a')).toEqual({ key: 'a', kind: 'json', value: 1, version: 5, expiresAt: 2_000 })
  now = 2_000
  expect(table.get('a')).toBeUndefined()
  // Twice: the first could have swept it away too early for the second.
  for (let n = 0; n < 2; n++) await table.apply(lines([{ key: 'a', version: 4, value: 'older' }]))
  expect(table.get('a')).toBeUndefined()
  now = 3_000
  await table.apply(lines([{ key: 'a', version: 4, value: 'older' }]))
  expect(table.get('a')?.value).toBe('older')
  await table.close()
})

test('what is forgotten is removed from the file in bounded pieces', async () => {
  const table = await open()
  const rows = (from: number, count: number, forgetAt: number): KeyValueRow[] =>
    Array.from({ length: count }, (_, n) => ({
      key: `k${from + n}`,
      version: 1,
      value: 1,
      expiresAt: forgetAt,
      forgetAt,
    }))
  await table.apply(lines(rows(0, 500, 2_000)))
  now = 2_000
  const { DatabaseSync } = await import('node:sqlite')
  const file = new DatabaseSync(join(folder, 'cache.db'), { readOnly: true })
  const stored = () => (file.prepare('SELECT count(*) AS n FROM entries').get() as { n: number }).n
  expect(stored()).toBe(500)
  await table.apply(lines(rows(1_000, 1, 9_000)))
  expect(stored()).toBeLessThan(501)
  expect(stored()).toBeGreaterThanOrEqual(501 - 104)
  for (let n = 0; n < 5; n++) await table.apply(lines(rows(2_000 + n, 1, 9_000)))
  expect(stored()).toBe(6)
  // It comes round again.
  now = 9_000
  for (let n = 0; n < 2; n++) await table.apply(lines(rows(3_000 + n, 1, 10_000)))
  expect(stored()).toBe(2)
  file.close()
  await table.close()
})

test('versions beyond 2^53 are kept exactly', async () => {
  const table = await open()
  await table.apply(lines([{ key: 'a', version: '9007199254740993', value: 'new' }]))
  await table.apply(lines([{ key: 'a', version: '9007199254740992', value: 'old' }]))
  expect(table.get('a')).toMatchObject({ value: 'new', version: 9007199254740993n })
  await table.close()
})

test('keys are listed by prefix, in order, page by page', async () => {
  const table = await open()
  await table.apply(lines(['b:1', 'a:2', 'a:1', 'a:3', 'é:1', 'a%'].map((key) => ({ key, version: 1, value: key }))))
  const keys = (options?: Parameters<typeof table.list>[0]) => table.list(options).map(({ key }) => key)
  expect(keys()).toEqual(['a%', 'a:1', 'a:2', 'a:3', 'b:1', 'é:1'])
  expect(keys({ prefix: 'a:' })).toEqual(['a:1', 'a:2', 'a:3'])
  expect(keys({ prefix: 'a:', limit: 2 })).toEqual(['a:1', 'a:2'])
  expect(keys({ prefix: 'a:', after: 'a:2' })).toEqual(['a:3'])
  expect([table.size(), table.size('a:'), table.size('é')]).toEqual([6, 3, 1])
  await table.close()
})

test('writes that wait for one another are applied in their order, and all answered', async () => {
  const table = await open()
  const changed = await Promise.all(
    Array.from({ length: 50 }, (_, n) => table.apply(lines([{ key: 'a', version: n, value: n }]))),
  )
  expect(changed).toEqual(new Array(50).fill(1))
  expect(table.get('a')?.value).toBe(49)
  await table.close()
})

test('it can be read beside its writer, and again after it was closed', async () => {
  const table = await open()
  await table.apply(lines([{ key: 'a', version: 1, value: { deep: ['ü'] } }]))
  const beside = await keyValue({ path: join(folder, 'cache.db'), runtime, readOnly: true })
  expect(beside.get('a')?.value).toEqual({ deep: ['ü'] })
  await expect(beside.apply(lines([]))).rejects.toMatchObject({ code: 'BAD_OPTION' })
  await beside.close()
  await table.close()
  const after = await keyValue({ path: join(folder, 'cache.db'), runtime, readOnly: true })
  expect(after.size()).toBe(1)
  await after.close()
})

test('a table that is not there, or is no table, says so', async () => {
  await expect(keyValue({ path: join(folder, 'none.db'), runtime, readOnly: true })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
  await writeFile(join(folder, 'cache.db'), 'this is no database, but a text that somebody put here')
  await expect(open()).rejects.toMatchObject({ code: 'SINK_FAILED', message: expect.stringContaining('cache.db') })
})
