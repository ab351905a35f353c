import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { projectFiles, ROOT, textOf } from './project.ts'

/** A piece of TypeScript in a page or in a doc comment. */
export interface Example {
  /** The file and line that it stands in. */
  readonly where: string
  /** The path that its first line says it has, or one that was made up for it. */
  readonly path: string
  readonly code: string
}

const FENCE = /^([ \t]*(?:\* ?)?)```(\w+)\n([\s\S]*?)^[ \t]*(?:\* ?)?```$/gm

/** The blocks of a language in a text, without what stands before each line in a doc comment. */
export function blocksOf(text: string, language: string): { code: string; line: number }[] {
  return [...text.matchAll(FENCE)]
    .filter((match) => match[2] === language)
    .map((match) => ({
      code: match[3]!.replaceAll(match[1] === '' ? /^$/g : /^[ \t]*\* ?/gm, ''),
      line: text.slice(0, match.index).split('\n').length + 1,
    }))
}

export const pages = (): string[] => projectFiles('.md').filter((path) => /^[^/]+$|^docs\/[^/]+$/.test(path))

/** All examples of the pages and doc comments. */
export function examples(): Example[] {
  const commented = projectFiles('.ts').filter((path) =>
    /^(core|operators|sources|sinks|state|embedded|cli)\//.test(path),
  )
  return [...pages(), ...commented].flatMap((file) =>
    blocksOf(textOf(file), 'ts').map(({ code, line }): Example => {
      const made = `examples/${file.replace(/[^\w-]+/g, '-')}-${line}.ts`
      return { where: `${file}:${line}`, path: /^\/\/ ([\w/-]+\.ts)$/m.exec(code.split('\n')[0]!)?.[1] ?? made, code }
    }),
  )
}

/**
 * A folder that looks like the project's, with the examples as files in it: the project's files are links, so that an
 * example may import them, by their place or as the package.
 */
export function workspace(folder: string, files: readonly { path: string; text: string }[]): void {
  for (const path of projectFiles().filter(
    (each) => !each.startsWith('test/') && /\.(ts|jsonl)$|^package\.json$/.test(each),
  )) {
    mkdirSync(join(folder, dirname(path)), { recursive: true })
    symlinkSync(join(ROOT, path), join(folder, path))
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  for (const { path, text } of files) {
    mkdirSync(join(folder, dirname(path)), { recursive: true })
    writeFileSync(join(folder, path), text, { flag: 'wx' })
  }
}

/** The file's name in which an example of CONTRIBUTING.md stands. */
export const named = (path: string): Example => {
  const found = examples().find((example) => example.path === path)
  if (!found) throw new Error(`no page has an example that begins with // ${path} (${basename(path)})`)
  return found
}
