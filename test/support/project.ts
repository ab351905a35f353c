import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The project's folder. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** All files that are, or are about to be, part of the project: what git tracks, and what it would take. Relative paths. */
export function projectFiles(ending = ''): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate'], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  const gone = execFileSync('git', ['ls-files', '--deleted'], { cwd: ROOT, encoding: 'utf8' }).split('\n')
  return listed.split('\n').filter((path) => path !== '' && path.endsWith(ending) && !gone.includes(path))
}

export const textOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

/** One import of a file: what it names, and whether it is there when the file runs. */
export interface Import {
  readonly specifier: string
  /** The project's file that a relative one means. */
  readonly file: string | undefined
  readonly typeOnly: boolean
}

const STATEMENT = /^(?:import|export)\s+(type\s+)?(?:([^'";()]*?)\s*from\s*)?'([^']+)'/gm
const CALL = /\bimport\('([^']+)'\)|\bnew URL\(.*?'(\.{1,2}\/[^']+\.ts)'/g

/** The imports of a TypeScript file's text: statements, `import()`, and modules that it starts by their URL. */
export function importsOf(path: string, text: string): Import[] {
  const code = text.replace(/^\s*(\/\*[\s\S]*?\*\/|\/\/.*$)/gm, '')
  const found = (specifier: string, typeOnly: boolean): Import => ({
    specifier,
    file: specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : undefined,
    typeOnly,
  })
  const statements = [...code.matchAll(STATEMENT)].map(([, type, names = '', specifier]) => {
    const listed = /^\{([\s\S]*)\}$/
      .exec(names.trim())?.[1]
      ?.split(',')
      .map((name) => name.trim())
    const allTypes = listed?.filter(Boolean).every((name) => name.startsWith('type ')) ?? false
    return found(specifier!, type !== undefined || allTypes)
  })
  const calls = [...code.matchAll(CALL)].map(([, imported, started]) => found((imported ?? started)!, false))
  return [...statements, ...calls]
}
