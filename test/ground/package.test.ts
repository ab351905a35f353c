import { execFile, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { projectFiles, ROOT, textOf } from '../support/project.ts'

const run = promisify(execFile)
/** What npm gives its children of settings must not reach another npm. */
const env = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_|VITEST|NODE_OPTIONS|NODE_ENV)/.test(name)),
  ),
  PATH: `${join(ROOT, 'node_modules/node/bin')}:${process.env.PATH}`,
}

const PIPELINE = `
import { MillraceError, pipeline } from 'millrace'
import { absence, dedup, filter } from 'millrace/operators'
import { esp, file } from 'millrace/sinks'
import { fromShop } from 'millrace/sources'
import { memoryStore } from 'millrace/state'
import { z } from 'zod'

const Event = z.object({ eventId: z.string(), visitorId: z.string(), type: z.enum(['view', 'addtocart', 'transaction']), occurredAt: z.number().int().positive() })
const events = fromShop({ seed: 7, events: 20_000, schema: Event, key: (e) => e.visitorId, time: (e) => e.occurredAt, lateness: '1m' })
  .pipe(dedup({ by: (e) => e.eventId, within: '24h' }))
const left = events.pipe(absence({ after: (e) => e.type === 'addtocart', unless: (e) => e.type === 'transaction', within: '30m' }))

export const shop = pipeline('shop', {
  carts: events.pipe(filter((e) => e.type === 'addtocart')).to(file({ path: 'out/carts.jsonl' })),
  mails: left.to(esp({ event: 'Cart Abandoned', recipient: (c) => c.key, expiresAfter: '6h' })),
})
export const known: [typeof memoryStore, typeof MillraceError] = [memoryStore, MillraceError]
`

let folder: string
let user: string
let packed: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-package-'))
  // Built and packed in a copy, so that a build of the project's own stays as it is.
  const copy = join(folder, 'copy')
  mkdirSync(copy)
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  for (const path of projectFiles().filter((each) => !/^(test|bench|node_modules)\b/.test(each))) {
    cpSync(join(ROOT, path), join(copy, path), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: copy, env }).catch(
    (error: { stdout: string; stderr: string }) => {
      throw new Error(`npm pack failed:\n${error.stdout}${error.stderr}`)
    },
  )
  // The build says what it does before.
  packed = stdout.slice(stdout.search(/^[[{]/m))
  const [tarball] = readdirSync(folder).filter((name) => name.endsWith('.tgz'))
  user = join(folder, 'user')
  mkdirSync(user)
  writeFileSync(join(user, 'package.json'), '{ "name": "user", "type": "module", "private": true }')
  await run('npm', ['install', '--no-audit', '--no-fund', join(folder, tarball!), `zod@${devDependencies.zod}`], {
    cwd: user,
    env,
  })
  if (!existsSync(join(user, 'node_modules/@types')))
    symlinkSync(join(ROOT, 'node_modules/@types'), join(user, 'node_modules/@types'))
  writeFileSync(join(user, 'shop.ts'), PIPELINE)
}, 240_000)

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

test('it holds what is needed to run it, no tests, no sources, and less than two and a half megabytes', () => {
  const listed = JSON.parse(packed) as
    | { files: { path: string }[]; unpackedSize: number }[]
    | Record<string, { files: { path: string }[]; unpackedSize: number }>
  const [{ files, unpackedSize } = { files: [], unpackedSize: 0 }] = Object.values(listed)
  const paths = files.map(({ path }) => path)
  expect(unpackedSize).toBeGreaterThan(100_000)
  expect(unpackedSize).toBeLessThan(2.5 * 1_048_576)
  for (const needed of [
    'package.json',
    'README.md',
    'LICENSE',
    'bin/millrace.js',
    'dist/cli/main.js',
    'dist/core/index.d.ts',
    'dist/embedded/warehouse-process.js',
    'dist/state/sqlite-thread.js',
    'pipelines/cart-abandonment.ts',
    'docs/errors.md',
    'docs/reference/absence.md',
  ]) {
    expect(paths).toContain(needed)
  }
  const odd = paths.filter(
    (path) =>
      !/^(package\.json|README\.md|LICENSE|bin\/millrace\.js|dist\/(core|state|embedded|kafka|redis|operators|sources|sinks|cli|testing)\/.+\.(js|d\.ts)|pipelines\/.+\.ts|docs\/(reference\/)?[\w-]+\.(md|svg))$/.test(
        path,
      ),
  )
  expect(odd).toEqual([])
})

test('a pipeline file of its user is checked by the compiler, and its mistakes are found', async () => {
  const { compilerOptions } = JSON.parse(readFileSync(join(ROOT, 'tsconfig.json'), 'utf8'))
  const { customConditions: _, ...options } = compilerOptions
  const check = (name: string, source: string) => {
    writeFileSync(join(user, name), source)
    writeFileSync(
      join(user, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: { ...options, types: ['node'], skipLibCheck: false }, include: [name] }),
    )
    return run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.'], { cwd: user, env }).then(
      () => '',
      (error: { stdout: string }) => error.stdout,
    )
  }
  expect(await check('shop.ts', PIPELINE)).toBe('')
  expect(
    await check(
      'wrong.ts',
      PIPELINE.replace("(e) => e.type === 'addtocart')).to", "(e) => e.typo === 'addtocart')).to"),
    ),
  ).toMatch(/^wrong\.ts\(\d+,\d+\): error TS\d+: Property 'typo' does not exist/)
}, 60_000)

/** Runs the command in the user's project, and gives what it printed. */
async function millrace(...args: string[]): Promise<string> {
  const child = spawn('npx', ['millrace', ...args], { cwd: user, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const [out, said, code] = await Promise.all([text(child.stdout), text(child.stderr), exit])
  expect(code, said).toBe(0)
  return out
}

test('npx millrace runs it to its end, and a second time has nothing left to do', async () => {
  const toEnd = async () => {
    const out = await millrace('run', 'shop.ts', '--until-end', '--json')
    return JSON.parse(out.trim().split('\n').at(-1)!) as { read: number }
  }
  expect(await toEnd()).toMatchObject({ read: 20_000 })
  const carts = readFileSync(join(user, 'out/carts-0.jsonl'), 'utf8').trimEnd().split('\n')
  expect(carts.length).toBeGreaterThan(100)
  expect(new Set(carts.map((line) => (JSON.parse(line) as { eventId: string }).eventId)).size).toBe(carts.length)
  expect(readdirSync(join(user, '.millrace/outbox')).length).toBeGreaterThan(1)
  expect(await toEnd()).toMatchObject({ read: 0 })
  expect(statSync(join(user, 'out/carts-0.jsonl')).size).toBe(carts.join('\n').length + 1)
}, 120_000)

test('the tutorial, followed to the letter from an empty folder, gives what it says', async () => {
  const [tarball] = readdirSync(folder).filter((name) => name.endsWith('.tgz'))
  const empty = join(folder, 'empty')
  mkdirSync(empty)
  cpSync(join(folder, tarball!), join(empty, tarball!))
  const page = textOf('docs/authoring.md')
  expect(page).toContain(`npx --package=./${tarball} millrace init my-pipelines --from ./${tarball}`)
  const blocks = [...page.matchAll(/^```(sh|ts)\n(?:\/\/ (\S+)\n)?([\s\S]*?)^```$/gm)]
  const said: string[] = []
  let cwd = empty
  for (const [, language, path, text] of blocks) {
    if (language === 'ts') {
      writeFileSync(join(cwd, path!), text!)
      continue
    }
    const script = text!.replace(
      'npx millrace init my-pipelines\n',
      `npx --yes --package=./${tarball} millrace init my-pipelines --from ./${tarball}\n`,
    )
    const { stdout } = await run('bash', ['-ec', `${script}\npwd`], { cwd, env })
    said.push(stdout)
    cwd = stdout.trimEnd().split('\n').at(-1)!
  }
  const [init, tested, before] = said
  expect(init).toMatch(/left-carts: 9 records/)
  const mailsOf = (data: string) =>
    readdirSync(join(cwd, data, 'outbox/mails'), { recursive: true }).filter((name) => String(name).endsWith('.json'))
  expect(mailsOf('.millrace')).toHaveLength(2)
  expect(readFileSync(join(cwd, 'out/events-0.jsonl'), 'utf8').trimEnd().split('\n')).toHaveLength(8)
  expect(tested).toMatch(/pass 2/)
  expect(before).toMatch(/my-carts: nothing found\ntypes +checked with TypeScript \S+ by tsconfig.json/)
  expect(before).toMatch(/→ mails {2}esp, stand-in/)
  expect(before).toMatch(/my-carts: 9 records .* 1 duplicate, 0 dead letters/)
  expect(mailsOf('trial')).toHaveLength(2)

  const npm = (...args: string[]) => run('npm', args, { cwd, env })
  expect((await npm('run', 'check')).stdout).toMatch(/left-carts: nothing found/)
  const own = join(cwd, 'pipelines/left-carts.ts')
  expect(readFileSync(own, 'utf8').trimEnd().split('\n').length).toBeLessThan(20)
  writeFileSync(own, readFileSync(own, 'utf8').replace("e.type === 'order'", "e.typo === 'order'"))
  await expect(npm('run', 'check')).rejects.toMatchObject({ stdout: expect.stringContaining('typo') })
  await expect(millrace('init', cwd)).rejects.toThrow(/is not empty/)
}, 240_000)

test('an old Node is told what to do', async () => {
  const bin = readFileSync(join(ROOT, 'bin/millrace.js'), 'utf8')
  const old = join(folder, 'old.mjs')
  writeFileSync(old, `${bin.replace('process.versions.node', "'20.1.0'")}`)
  await expect(run('node', [old, '--version'], { env })).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^error: millrace needs Node 24 or newer, .*npm install --save-dev node@26/),
  })
  // what an old one does not have would end it before the message
  expect(bin).not.toMatch(/import \{[^}]*registerHooks/)
})
