import { basename, dirname } from 'node:path'
import { expect, test } from 'vitest'
import * as core from '../../core/index.ts'
import * as operators from '../../operators/index.ts'
import * as sinks from '../../sinks/index.ts'
import * as sources from '../../sources/index.ts'
import * as state from '../../state/index.ts'
import { projectFiles, textOf } from '../support/project.ts'

const camel = (text: string) => text.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
const capital = (text: string) => text[0]!.toUpperCase() + text.slice(1)
const declared = (path: string, kind: string) =>
  [...textOf(path).matchAll(new RegExp(`^export (?:async )?(?:${kind}) (\\w+)`, 'gm'))].map((match) => match[1]!)

/** The files of a folder that are for authors, with what authors call in them: the function is named for its file. */
function publicFiles(folder: string, functionsOf: (name: string) => readonly string[]) {
  return projectFiles('.ts')
    .filter((path) => dirname(path) === folder && basename(path) !== 'index.ts')
    .map((path) => {
      const wanted = functionsOf(camel(basename(path, '.ts')))
      const functions = declared(path, 'function|const').filter((name) => wanted.includes(name))
      return { path, functions }
    })
    .filter(({ functions }) => functions.length > 0)
}

test.each([
  ['operators', operators, (name: string) => [name], 8],
  ['sinks', sinks, (name: string) => [name], 6],
  ['sources', sources, (name: string) => [`from${capital(name)}`, `${name}Source`], 4],
] as const)(
  '%s/index.ts exports every public file of its folder, and nothing else',
  (folder, index, functionsOf, least) => {
    const files = publicFiles(folder, functionsOf)
    expect(files.length).toBeGreaterThanOrEqual(least)
    expect(Object.keys(index).sort()).toEqual(files.flatMap(({ functions }) => [...new Set(functions)]).sort())
    const text = textOf(`${folder}/index.ts`)
    for (const { path } of files) {
      for (const type of declared(path, 'interface|type').filter((name) => name.endsWith('Options'))) {
        expect(text, `${path} has ${type}`).toMatch(new RegExp(`\\b${type}\\b`))
      }
    }
  },
)

test('every operator file has one operator', () => {
  const files = projectFiles('.ts').filter((path) => dirname(path) === 'operators' && !path.endsWith('index.ts'))
  for (const path of files) expect(declared(path, 'function'), path).toContain(camel(basename(path, '.ts')))
})

test('what the package shows of the engine and of the stores is meant to be shown', () => {
  expect(Object.keys(core).sort()).toEqual([
    'ERROR_CODES',
    'MillraceError',
    'createMetrics',
    'isPipeline',
    'merge',
    'operate',
    'pipeline',
    'startWorker',
    'stream',
    'systemRuntime',
  ])
  expect(Object.keys(state).sort()).toEqual([
    'MemoryDisk',
    'inspect',
    'inspectRedis',
    'memoryStore',
    'redisStore',
    'sqliteStore',
  ])
})

test('every folder with an index is a subpath of the package, in each of its forms', () => {
  const { exports, files } = JSON.parse(textOf('package.json')) as { exports: Record<string, unknown>; files: string[] }
  const folders = projectFiles('/index.ts')
    .map(dirname)
    .filter((folder) => !/[/]|^(test|bench|cli)$/.test(folder))
  expect(folders.length).toBeGreaterThanOrEqual(5)
  const wanted = folders.map((folder) => [
    folder === 'core' ? '.' : `./${folder}`,
    {
      source: `./${folder}/index.ts`,
      types: `./dist/${folder}/index.d.ts`,
      default: `./dist/${folder}/index.js`,
    },
  ])
  expect(exports).toEqual({ ...Object.fromEntries(wanted), './package.json': './package.json' })
  expect(files).toContain('dist')
})

test('an index only re-exports, and each name once', () => {
  for (const path of projectFiles('/index.ts').filter((file) => !file.startsWith('test/'))) {
    const statements = textOf(path)
      .replace(/\{[^}]*\}/g, '{}')
      .trim()
      .split('\n')
    for (const line of statements) expect(line, path).toMatch(/^export (type )?\{\} from '\.\/[\w/-]+\.ts'$/)
    const names = [...textOf(path).matchAll(/\{([^}]*)\}/g)].flatMap((match) => match[1]!.split(','))
    const given = names.map((name) => name.trim().replace(/^type /, '')).filter(Boolean)
    expect(new Set(given).size, path).toBe(given.length)
  }
})
