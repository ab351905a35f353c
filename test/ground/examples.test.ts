import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import * as core from '../../core/index.ts'
import * as operators from '../../operators/index.ts'
import * as sinks from '../../sinks/index.ts'
import * as sources from '../../sources/index.ts'
import * as testing from '../../testing/index.ts'
import { blocksOf, type Example, examples, pages, workspace } from '../support/examples.ts'
import { ROOT, textOf } from '../support/project.ts'

const run = promisify(execFile)
const root = mkdtempSync(join(tmpdir(), 'millrace-examples-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const all = examples()

/** What an example may use without importing it, by where that is from. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  rxjs: ['of', 'lastValueFrom', 'toArray', 'map as rxMap'],
  zod: ['z'],
  millrace: Object.keys(core),
  'millrace/operators': Object.keys(operators),
  'millrace/sources': Object.keys(sources),
  'millrace/sinks': Object.keys(sinks),
  'millrace/testing': Object.keys(testing),
}
const EVENTS = `import { fromFile as fromSample } from 'millrace/sources'
import { ShopEvent as Sample } from ${JSON.stringify('../pipelines/schemas/shop-event.ts')}
const events = fromSample({ path: 'events.jsonl', schema: Sample, key: (e) => e.visitorId, time: (e) => e.occurredAt })
`

/** The file that an example becomes: with the imports that it leaves out, and with what it says it gives as a check. */
function fileOf({ code, path }: Example): { path: string; text: string } {
  const own = code.replace(/\/\/ (?!=>).*$/gm, '').replace(/'[^'\n]*'/g, "''")
  const imported = [...own.matchAll(/^import [^'"]*/gm)].map((match) => match[0]).join()
  const declared = (name: string) =>
    new RegExp(`\\b(const|let|function|class|interface) ${name}\\b`).test(own) ||
    new RegExp(`\\b${name}\\b`).test(imported)
  const used = (name: string) => new RegExp(`(?<![.\\w])${name}\\b(?!\\.(log|warn|error))`).test(own) && !declared(name)
  const imports = Object.entries(KNOWN).flatMap(([from, names]) => {
    const wanted = names.filter((name) => used(name.split(' ').at(-1)!))
    return wanted.length > 0 ? [`import { ${wanted.join(', ')} } from '${from}'\n`] : []
  })
  const checked = code.replace(
    /^(\s*)(?:const (\w+) = )?(.+?);? \/\/ => (.+)$/gm,
    (_, indent: string, name: string | undefined, expression: string, given: string) =>
      name === undefined
        ? `${indent}same(${expression}, ${given})`
        : `${indent}const ${name} = ${expression}\n${indent}same(${name}, ${given})`,
  )
  const same = checked === code ? '' : "import { deepStrictEqual as same } from 'node:assert'\n"
  return { path, text: `${imports.join('')}${used('events') ? EVENTS : ''}${same}${checked}\nexport {}\n` }
}

const files = all.map(fileOf)
const project = join(root, 'project')
workspace(project, files)

async function compile(paths: readonly string[]): Promise<string[]> {
  const { compilerOptions } = JSON.parse(textOf('tsconfig.json'))
  const settings = { ...compilerOptions, typeRoots: [join(ROOT, 'node_modules/@types')] }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: settings, files: paths }))
  const { stdout } = await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.'], { cwd: project }).catch(
    (error) => error as { stdout: string },
  )
  // Mistakes of other files are their own tests' to find.
  return stdout.split('\n').filter((line) => paths.some((path) => line.startsWith(`${path}(`)))
}

test('there are examples in the pages and in the doc comments', () => {
  const places = new Set(all.map(({ where }) => where.split(/[/:]/)[0]))
  for (const place of ['README.md', 'CONTRIBUTING.md', 'operators', 'sinks']) expect(places).toContain(place)
  expect(all.length).toBeGreaterThan(12)
  expect(files.filter(({ text }) => text.includes('same(')).length).toBeGreaterThan(6)
})

test('every example is one that the compiler takes', async () => {
  expect(await compile(files.map(({ path }) => path))).toEqual([])
  const wrong = {
    path: 'examples/wrong.ts',
    text: fileOf({ where: '', path: '', code: "events.pipe(filter((e) => e.typo === 'view'))\n" }).text,
  }
  writeFileSync(join(project, wrong.path), wrong.text)
  expect(await compile([wrong.path])).toEqual([expect.stringContaining("Property 'typo' does not exist")])
}, 60_000)

test.each(files.map((file, n) => [all[n]!.where, file.path] as const))(
  '%s runs, and gives what it says',
  async (_, path) => {
    await run(process.execPath, ['--conditions=source', path], { cwd: project })
  },
)

test('an example that says what is not so is found', async () => {
  const code = 'await lastValueFrom(of(1).pipe(map((n) => n + 1), toArray())) // => [3]\n'
  writeFileSync(join(project, 'examples/false.ts'), fileOf({ where: '', path: '', code }).text)
  await expect(run(process.execPath, ['--conditions=source', 'examples/false.ts'], { cwd: project })).rejects.toThrow(
    /deep-equal|deepStrictEqual/i,
  )
})

const commands = pages().flatMap((page) =>
  blocksOf(textOf(page), 'sh').flatMap(({ code }) =>
    code.split('\n').map((line) => [page, line.replace(/\s+#.*$/, '').trim()] as const),
  ),
)

test('the commands of the README are ones that there are, with their options', async () => {
  const millrace = commands.map(([, line]) => line).filter((line) => line.includes('npx millrace'))
  expect(millrace.length).toBeGreaterThan(3)
  const missing: string[] = []
  for (const line of [...millrace, 'npx millrace run x.ts --no-such-option']) {
    const [, said = ''] = /npx millrace (.*)$/.exec(line) ?? []
    const words = said.replace(/"[^"]*"|'[^']*'/g, 'x').split(/\s+/)
    const command = words
      .filter((word) => /^[a-z]+(-[a-z]+)*$/.test(word))
      .slice(0, words[0] === 'dead-letters' ? 2 : 1)
    const { stdout } = await run(process.execPath, [join(ROOT, 'bin/millrace.js'), ...command, '--help'])
    expect(stdout, line).toMatch(new RegExp(`^Usage: millrace ${command.join(' ')}`, 'm'))
    for (const option of words.filter((word) => word.startsWith('--'))) {
      if (!new RegExp(`${option.split('=')[0]}\\b`).test(stdout)) missing.push(option)
    }
  }
  expect(missing).toEqual(['--no-such-option'])
}, 60_000)

test('the scripts and tests that the pages name are there', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> }
  for (const [page, line] of commands) {
    for (const [, script] of line.matchAll(/npm (?:run )?(start|test|(?<=run )\w+)/g))
      expect(scripts, page).toHaveProperty(script!)
  }
})

test('every operator, source and sink has its line in the README', () => {
  const readme = textOf('README.md')
  const names = [
    ...Object.keys(operators),
    ...Object.keys(sources).filter((name) => name.startsWith('from')),
    ...Object.keys(sinks),
    'merge',
  ]
  expect(names.filter((name) => !new RegExp(`^\\|.*\`${name}\``, 'm').test(readme))).toEqual([])
})
