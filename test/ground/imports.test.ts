import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importsOf, projectFiles, ROOT, textOf } from '../support/project.ts'

const FOLDERS = [
  'core',
  'redis',
  'state',
  'embedded',
  'kafka',
  'operators',
  'sources',
  'sinks',
  'cli',
  'testing',
  'pipelines',
] as const
type Folder = (typeof FOLDERS)[number]

/** What each folder may import, beside itself and what comes with Node. */
const ALLOWED: Readonly<Record<Folder, readonly string[]>> = {
  core: ['rxjs', 'prom-client', '@standard-schema/spec'],
  state: ['core', 'redis'],
  redis: ['core', 'ioredis'],
  embedded: ['core', 'chdb'],
  kafka: [
    'core',
    'embedded',
    'kafkajs',
    '@platformatic/kafka',
    '@platformatic/wasm-utils',
    '@node-rs/crc32',
    'avsc',
    'protobufjs',
  ],
  operators: ['core', 'rxjs', '@datadog/sketches-js', '@standard-schema/spec'],
  sources: ['core', 'embedded', 'kafka', '@standard-schema/spec'],
  sinks: ['core', 'embedded', 'kafka', 'redis', '@clickhouse/client'],
  testing: ['core', 'embedded', 'state'],
  cli: [
    'core',
    'state',
    'embedded',
    'operators',
    'sources',
    'sinks',
    'pipelines',
    'console',
    'commander',
    '@dagrejs/dagre',
    'pino',
    'rxjs',
    'prom-client',
  ],
  pipelines: ['millrace', 'millrace/operators', 'millrace/sources', 'millrace/sinks', 'zod', 'rxjs'],
}

/** The programs that make the samples are tools, and no pipelines. */
const TOOL = /^pipelines\/samples\/make-/
const sources = projectFiles('.ts').filter((path) => FOLDERS.includes(path.split('/')[0] as Folder) && !TOOL.test(path))

function offences(path: string, text: string): string[] {
  const folder = path.split('/')[0] as Folder
  return importsOf(path, text)
    .filter(({ specifier, file, typeOnly }) => {
      if (specifier.startsWith('node:')) return false
      const target = file === undefined ? specifier : file.split('/')[0]!
      if (target === folder) return false
      if (specifier === '@standard-schema/spec') return !typeOnly
      // of kafkajs, what is below its public interface
      return !ALLOWED[folder].some((allowed) => target === allowed || target.startsWith(`${allowed}/src/`))
    })
    .map(({ specifier }) => `${path} imports ${specifier}`)
}

/** A way from a file back to itself, over imports that are there when it runs. */
function cycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>()
  const visit = (path: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path]
    if (done.has(path)) return undefined
    for (const next of graph.get(path) ?? []) {
      const found = visit(next, [...way, path])
      if (found) return found
    }
    done.add(path)
    return undefined
  }
  for (const path of graph.keys()) {
    const found = visit(path, [])
    if (found) return found
  }
  return undefined
}

test('there are files to look at, with imports of every form', () => {
  expect(sources.length).toBeGreaterThan(80)
  const text = `
import a from 'one'
import type { B } from '../core/b.ts'
import { type C, type D } from 'two'
import {
  e,
  type F,
} from 'three'
export { g } from './g.ts'
export * from './h.ts'
import './i.ts'
// import { no } from 'no'
/* import { no } from 'no' */
const j = await import('four')
const k = new Worker(new URL(import.meta.url.endsWith('.ts') ? './k.ts' : './k.js', import.meta.url))`
  expect(importsOf('state/x.ts', text).map(({ specifier, file, typeOnly }) => [file ?? specifier, typeOnly])).toEqual([
    ['one', false],
    ['core/b.ts', true],
    ['two', true],
    ['three', false],
    ['state/g.ts', false],
    ['state/h.ts', false],
    ['state/i.ts', false],
    ['four', false],
    ['state/k.ts', false],
  ])
})

test('imports point inwards', () => {
  expect(sources.flatMap((path) => offences(path, textOf(path)))).toEqual([])
})

test.each([
  ['core/x.ts', "import { y } from '../state/y.ts'"],
  ['core/x.ts', "import { z } from 'zod'"],
  ['core/x.ts', "import type { y } from '../test/support/y.ts'"],
  ['core/x.ts', "import { StandardSchemaV1 } from '@standard-schema/spec'"],
  ['operators/x.ts', "export { y } from '../embedded/y.ts'"],
  ['state/x.ts', "const y = await import('../embedded/y.ts')"],
  ['sinks/x.ts', "import { y } from '../sources/y.ts'"],
  ['embedded/x.ts', "import '../cli/y.ts'"],
  ['cli/x.ts', "import { y } from '../test/y.ts'"],
  ['pipelines/x.ts', "import { y } from '../core/y.ts'"],
])('%s may not say %s', (path, text) => {
  expect(offences(path, text)).toHaveLength(1)
})

test('nothing but tests and benchmarks imports test', () => {
  const others = projectFiles('.ts').filter((path) => !/^(test|bench)\/|^vitest\.config/.test(path))
  const wrong = others.filter((path) => importsOf(path, textOf(path)).some(({ file }) => file?.startsWith('test/')))
  expect(wrong).toEqual([])
})

test('no file imports itself in the end', () => {
  const graph = new Map(
    sources.map((path) => [
      path,
      importsOf(path, textOf(path)).flatMap(({ file, typeOnly }) => (file === undefined || typeOnly ? [] : [file])),
    ]),
  )
  expect(cycle(graph)).toBeUndefined()
  expect(cycle(new Map([...graph, ['core/errors.ts', ['core/stream.ts']]]))).toContain('core/errors.ts')
})

test('what a file of the package imports is one of its dependencies, and each dependency is imported', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
    devDependencies: Record<string, string>
  }
  const shipped = sources.filter((path) => !path.startsWith('pipelines/'))
  const imported = new Set(
    shipped
      .flatMap((path) => importsOf(path, textOf(path)))
      .flatMap(({ specifier, file }) =>
        file !== undefined || specifier.startsWith('node:') ? [] : [packageOf(specifier)],
      ),
  )
  // The embedded warehouse's engine is there when its user installs it.
  imported.delete('chdb')
  expect([...imported].sort()).toEqual(Object.keys(dependencies).sort())
  expect(Object.keys(dependencies).filter((name) => name in devDependencies)).toEqual([])
})

const packageOf = (specifier: string) =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
