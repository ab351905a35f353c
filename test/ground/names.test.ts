import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { projectFiles, ROOT } from '../support/project.ts'

/** Put together from parts, so that this file does not hold what it looks for. */
const word = (...parts: string[]) => parts.join('')
const FORBIDDEN: readonly [what: string, pattern: RegExp][] = [
  [
    'a path of one machine',
    new RegExp(
      `(?<![\\w.-])/(${word('ho', 'me')}|${word('Us', 'ers')}|${word('ro', 'ot')}|${word('wo', 'rk')})/[\\w.-]`,
    ),
  ],
  ['a folder of Windows', new RegExp(`[A-Z]:\\\\{1,2}${word('Us', 'ers')}`)],
  ['a registry that is not the public one', new RegExp(word('"resolved": "https?://(?!registry\\.npm', 'js\\.org/)'))],
  ['a registry in a setting', new RegExp(`^\\s*(@[\\w-]+:)?${word('regis', 'try')}\\s*=`, 'm')],
  ['a token', new RegExp(word('_auth', 'Token|-----BEGIN [A-Z ]*PRIVATE', ' KEY'))],
  [
    'the folder of the specification',
    new RegExp(`(?<!\\.\\./)(?<!['/\\w])/?${word('sha', 'red')}/(design|engine|style|hazards|api)\\b`),
  ],
]

/** What is wrong with a text, with the line it stands in. */
function offences(path: string, text: string): string[] {
  return FORBIDDEN.flatMap(([what, pattern]) => {
    const at = text.search(pattern)
    return at === -1 ? [] : [`${path}:${text.slice(0, at).split('\n').length}: ${what}`]
  })
}

test('no file names a machine, a registry of its own, or a secret', () => {
  const files = projectFiles()
  expect(files.length).toBeGreaterThan(150)
  expect(files.flatMap((path) => offences(path, readFileSync(join(ROOT, path), 'utf8')))).toEqual([])
  if (hostname().length > 8) {
    const named = files.filter((path) => readFileSync(join(ROOT, path), 'utf8').includes(hostname()))
    expect(named).toEqual([])
  }
})

test.each([
  word('see /ho', 'me/ann/x'),
  word("'/wo", "rk/main/core'"),
  word('"resol', 'ved": "http://localhost:4873/x"'),
  word('regis', 'try=https://example.com'),
  word('//x/:_auth', 'Token=abc'),
  word('see sha', 'red/design.md'),
])('a file that says %j is found', (text) => {
  expect(offences('x', text)).toHaveLength(1)
})

test.each(['/tmp/x', 'a/work/b', 'https://example.com/home/x', "join(ROOT, '../shared/data/x')", 'registry'])(
  'a file that says %j is not',
  (text) => {
    expect(offences('x', text)).toEqual([])
  },
)
