import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { lastValueFrom, of, toArray } from 'rxjs'
import { afterAll, expect, test } from 'vitest'
import type { Operator } from '../../core/operator.ts'
import type { Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import { named, workspace } from '../support/examples.ts'
import { connectorContext, sinkSuite } from '../support/sink-suite.ts'
import { sourceSuite } from '../support/source-suite.ts'

/*
 * The examples of CONTRIBUTING.md are taken from the page and held to the suites that the page names.
 */
const root = mkdtempSync(join(tmpdir(), 'millrace-contributing-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const paths = ['operators/changed.ts', 'sources/list.ts', 'sinks/folder.ts']
workspace(
  join(root, 'project'),
  paths.map((path) => ({ path, text: named(path).code })),
)
const load = (path: string) => import(/* @vite-ignore */ pathToFileURL(join(root, 'project', path)).href)
const { changed } = (await load(paths[0]!)) as { changed(options: object): Operator<unknown, unknown> }
const { listSource } = (await load(paths[1]!)) as { listSource(options: object): Source }
const { folder } = (await load(paths[2]!)) as { folder(options: object): Sink<Row> }

interface Row {
  readonly id: string
}

let made = 0
const fresh = () => {
  const path = join(root, String(made++))
  mkdirSync(path)
  return path
}

test('the operator of the page passes what changes, by key', async () => {
  const prices = of(['a', 1], ['b', 1], ['a', 1], ['a', 2], ['b', 1], ['a', 1])
  const options = { by: (e: [string, number]) => e[0], of: (e: [string, number]) => e[1], ttl: '1d' }
  expect(await lastValueFrom(prices.pipe(changed(options), toArray()))).toEqual([
    ['a', 1],
    ['b', 1],
    ['a', 2],
    ['a', 1],
  ])
  expect(() => changed({ ...options, ttl: '0d' })).toThrow(/changed "changed": ttl must be a positive duration/)
})

sourceSuite('the source of the page', async () => {
  let texts = ['{"a":1}', '{"a":"ü"}', '{"a":', 'null', '[2]']
  const values = () =>
    texts.map((text) => {
      try {
        return JSON.parse(text) as unknown
      } catch (error) {
        return error
      }
    })
  return {
    source: () => listSource({ name: 'list', texts }),
    context: connectorContext(fresh()),
    records: () => [texts.map((text) => Buffer.from(text))],
    values,
    change: async () => {
      texts = ['{"b":1}', ...texts.slice(1)]
    },
    cut: async () => {
      texts = texts.slice(0, -1)
    },
    close: async () => undefined,
  }
})

sinkSuite<Row>('the sink of the page', async () => {
  const path = join(fresh(), 'rows')
  return {
    sink: () => folder({ path }),
    context: connectorContext(fresh()),
    rows: (count) => Array.from({ length: count }, (_, n) => ({ id: `row-${n}` })),
    read: async () =>
      readdirSync(path)
        .filter((file) => file.endsWith('.jsonl'))
        .flatMap((file) => readFileSync(join(path, file), 'utf8').trimEnd().split('\n'))
        .map((line) => JSON.parse(line) as unknown),
    unencodable: { id: 'x', toJSON: () => undefined } as Row,
    close: async () => undefined,
  }
})
