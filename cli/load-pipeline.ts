import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { MillraceError, messageOf } from '../core/errors.ts'
import { isPipeline, type Pipeline } from '../core/pipeline.ts'
import { asMillraceError } from './exit-code.ts'

/**
 * The pipeline that a file exports.
 *
 * @param name the one that is meant, when the file exports several
 * @throws MillraceError NOT_FOUND when the file, or a pipeline of that name, is not there; BAD_PIPELINE when the file
 * does not load or exports none; the error of a wrong option, with the line that it stands in
 */
export async function loadPipeline(file: string, name?: string): Promise<Pipeline> {
  return choose(file, await loadPipelines(file), name)
}

/**
 * The pipelines that a file exports, at least one, each with the names that it has there.
 *
 * @throws MillraceError as {@link loadPipeline}
 */
export async function loadPipelines(file: string): Promise<ReadonlyMap<Pipeline, readonly string[]>> {
  const path = resolve(file)
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found)
    throw new MillraceError(
      'NOT_FOUND',
      `there is no pipeline file ${file}: check the path, which is taken from ${process.cwd()}`,
    )
  if (!found.isFile())
    throw new MillraceError('BAD_PIPELINE', `${file} is not a file: name the file that exports the pipeline`)
  let module: Readonly<Record<string, unknown>>
  try {
    module = await import(pathToFileURL(path).href)
  } catch (thrown) {
    throw notLoaded(file, path, thrown)
  }
  const pipelines = new Map<Pipeline, string[]>()
  for (const [exported, value] of Object.entries(module)) {
    if (isPipeline(value)) pipelines.set(value, [...(pipelines.get(value) ?? []), exported])
  }
  if (pipelines.size > 0) return pipelines
  throw new MillraceError(
    'BAD_PIPELINE',
    `${file} exports no pipeline: end it with export const mine = pipeline('mine', { … })`,
  )
}

function choose(file: string, pipelines: ReadonlyMap<Pipeline, readonly string[]>, name: string | undefined): Pipeline {
  const names = [...pipelines.keys()].map((made) => made.name).join(', ')
  if (name === undefined) {
    const [only] = pipelines.keys()
    if (pipelines.size === 1) return only!
    throw new MillraceError(
      'BAD_PIPELINE',
      `${file} exports ${pipelines.size} pipelines: say which one with --pipeline: ${names}`,
    )
  }
  const [chosen, other] = [...pipelines].filter(([made, exports]) => made.name === name || exports.includes(name))
  if (chosen && !other) return chosen[0]
  throw new MillraceError(
    'NOT_FOUND',
    `${file} exports ${chosen ? 'several pipelines' : 'no pipeline'} called ${name}; it has: ${names}`,
  )
}

function notLoaded(file: string, path: string, thrown: unknown): MillraceError {
  const { code } = thrown as { code?: unknown }
  const message = messageOf(thrown)
  if (code === 'ERR_MODULE_NOT_FOUND') return notImported(file, path, thrown as Error)
  if (thrown instanceof SyntaxError) {
    const where = placeOfSyntax(thrown.stack) ?? checkedPlace(path)
    return new MillraceError(
      'BAD_PIPELINE',
      `${where ? shortened(where, file, path) : file} does not load: ${message}`,
      { cause: thrown },
    )
  }
  const place = placeOfThrow(thrown, path)
  const at = place === undefined ? file : `${file}:${place}`
  const error = asMillraceError(thrown)
  if (error.code !== 'INTERNAL') return new MillraceError(error.code, `${at}: ${error.message}`, { cause: thrown })
  return new MillraceError('BAD_PIPELINE', `${at} throws while it loads: ${message}`, { cause: thrown })
}

/** Node names what is missing and who imports it, both by their whole paths. */
function notImported(file: string, path: string, thrown: Error): MillraceError {
  const [, kind, missing, from] =
    /^Cannot find (module|package) '([^']+)' imported from (.+)$/.exec(thrown.message) ?? []
  if (missing === undefined || from === undefined) {
    return new MillraceError('BAD_PIPELINE', `${file} does not load: ${thrown.message}`, { cause: thrown })
  }
  const who = shortened(from, file, path)
  const next = kind === 'package' ? `add it: npm install ${missing}` : 'check the path, with its ending'
  return new MillraceError('BAD_PIPELINE', `${who} imports '${missing}', which is not there: ${next}`, {
    cause: thrown,
  })
}

/** `/path/x.ts:3` or `file:///path/x.ts:3` in the first line of a stack, where Node puts the place of a syntax error. */
function placeOfSyntax(stack: string | undefined): string | undefined {
  const first = /^(\S.*:\d+)$/.exec(stack?.split('\n')[0] ?? '')?.[1]
  return first?.startsWith('file://')
    ? first.replace(/^(.*):(\d+)$/, (_, url: string, line: string) => `${fileURLToPath(url)}:${line}`)
    : first
}

/** Some syntax errors say no place when a file is imported; Node's own check of the file does. */
function checkedPlace(path: string): string | undefined {
  return placeOfSyntax(spawnSync(process.execPath, ['--check', path], { encoding: 'utf8', timeout: 10_000 }).stderr)
}

/** Line of the file in which something that it called threw. */
function placeOfThrow(thrown: unknown, path: string): number | undefined {
  const stack = thrown instanceof Error ? (thrown.stack ?? '') : ''
  const frame = stack.split('\n').find((line) => line.includes(`${pathToFileURL(path).href}:`))
  const line = /:(\d+):\d+\)?$/.exec(frame ?? '')?.[1]
  return line === undefined ? undefined : Number(line)
}

function shortened(where: string, file: string, path: string): string {
  return where.startsWith(path) ? file + where.slice(path.length) : where
}
