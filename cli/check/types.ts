import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Findings } from './finding.ts'
import { isAuthors } from './stack.ts'

/** What a file is held to in a project that says nothing. */
const STRICT = {
  target: 'es2024',
  module: 'nodenext',
  moduleResolution: 'nodenext',
  strict: true,
  allowImportingTsExtensions: true,
  skipLibCheck: true,
}

/**
 * Has the project's own TypeScript look at a file, with the settings of the `tsconfig.json` above it.
 *
 * @returns how that went, in a few words
 */
export async function checkTypes(file: string, findings: Findings): Promise<string> {
  if (!/\.[cm]?tsx?$/.test(file)) return 'not checked: the file is no TypeScript'
  const compiler = nearest(file, 'node_modules/typescript/package.json')
  if (compiler === undefined)
    return 'not checked: the project has no TypeScript; npm install --save-dev typescript @types/node'
  const { version, bin } = JSON.parse(readFileSync(compiler, 'utf8')) as { version: string; bin: { tsc: string } }
  const config = nearest(file, 'tsconfig.json')
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'millrace-types-'))
  try {
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        ...(config === undefined ? {} : { extends: config }),
        compilerOptions: {
          ...(config === undefined ? STRICT : {}),
          typeRoots: typeRoots(file),
          noEmit: true,
          composite: false,
          incremental: false,
          rootDir: '/',
        },
        files: [file],
        include: [],
        exclude: [],
        references: [],
      }),
    )
    const args = [join(dirname(compiler), bin.tsc), '-p', folder, '--pretty', 'false']
    const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
    const ended = new Promise<number | null>((done) => child.once('close', done))
    const [out, said, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
    const mistakes = mistakesIn(out, folder)
    for (const { path, line, message } of mistakes) {
      findings.add({
        code: 'TYPES',
        place: { file: path, line },
        problem: message,
        instead:
          'make the types fit: the record that a function gets is what the schema, or the operator before, gives',
      })
    }
    const settings = config === undefined ? 'in strict mode' : `by ${relative(process.cwd(), config) || config}`
    if (code === 0 || mistakes.length > 0) return `checked with TypeScript ${version} ${settings}`
    return `not checked: TypeScript ${version} ended with ${code}: ${(out + said).trim().split('\n')[0]}`
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A file of that name in the nearest folder above. */
function nearest(file: string, name: string): string | undefined {
  return above(file)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path))
}

function above(file: string): string[] {
  const folder = dirname(file)
  return folder === file ? [] : [folder, ...above(folder)]
}

function typeRoots(file: string): string[] {
  return above(file)
    .map((folder) => join(folder, 'node_modules/@types'))
    .filter((path) => existsSync(path))
}

/** The compiler's lines, each with the innermost of what it says below: that is where the reason is. */
function mistakesIn(out: string, folder: string): { path: string; line: number; message: string }[] {
  const found: { path: string; line: number; message: string }[] = []
  let last: { path: string; line: number; message: string } | undefined
  let reason = ''
  const settle = () => {
    if (last) found.push({ ...last, message: reason === '' ? last.message : `${last.message} ${reason}` })
  }
  for (const line of out.split('\n')) {
    const [, path, at, message] = /^(.+?)\((\d+),\d+\): error (TS\d+: .+)$/.exec(line) ?? []
    if (path !== undefined) {
      settle()
      last = { path: resolve(folder, path), line: Number(at), message: message! }
      reason = ''
    } else if (/^\s+\S/.test(line)) reason = line.trim()
  }
  settle()
  return found.filter(({ path }) => isAuthors(path))
}
