import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import { type Pipeline, planOf } from '../core/pipeline.ts'
import type { Source } from '../core/source.ts'
import { fileSource } from '../sources/file.ts'
import { isGzip } from '../sources/file-input.ts'

/**
 * The sources that `--input NAME=PATH` puts in the place of a pipeline's own. `-` is standard input; CSV is known by
 * `.csv` and `.csv.gz`, an archive by its first bytes. Without `untilEnd` a plain file is followed as it grows.
 *
 * @throws MillraceError BAD_OPTION when it is not of that form, or the pipeline has no such source; NOT_FOUND
 */
export function inputsOf(
  pipeline: Pipeline,
  given: readonly string[],
  untilEnd: boolean,
): Readonly<Record<string, Source>> {
  const names = planOf(pipeline).plan.sources.map((source) => source.name)
  const inputs: Record<string, Source> = {}
  for (const input of given) {
    const { name, path } = split(input, names)
    if (!names.includes(name)) {
      throw new MillraceError(
        'BAD_OPTION',
        `--input: pipeline "${pipeline.name}" reads no ${shown(name)}; it reads: ${names.join(', ')}`,
      )
    }
    if (name in inputs)
      throw new MillraceError('BAD_OPTION', `--input: ${shown(name)} is given twice; name one file for it`)
    inputs[name] = fileSource({ path, name, follow: canGrow(path) && !untilEnd })
  }
  const [twice] = given.filter((input) => input.endsWith('=-')).slice(1)
  if (twice !== undefined) throw new MillraceError('BAD_OPTION', '--input: standard input can feed one source only')
  return inputs
}

/** Names may have an equals sign in them; the longest that is one of the pipeline's is meant. */
function split(input: string, names: readonly string[]): { name: string; path: string } {
  const known = names.filter((name) => input.startsWith(`${name}=`)).sort((a, b) => b.length - a.length)[0]
  const at = known?.length ?? input.indexOf('=')
  if (at > 0 && at < input.length - 1) return { name: input.slice(0, at), path: input.slice(at + 1) }
  throw new MillraceError(
    'BAD_OPTION',
    `--input must be NAME=PATH, such as ${names[0]}=events.jsonl, got ${shown(input)}`,
  )
}

/** @throws MillraceError NOT_FOUND, SOURCE_FAILED */
function canGrow(path: string): boolean {
  if (path === '-') return false
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found)
    throw new MillraceError(
      'NOT_FOUND',
      `--input: there is no file ${path}: check the path, which is taken from ${process.cwd()}`,
    )
  if (found.isDirectory()) throw new MillraceError('BAD_OPTION', `--input: ${path} is a folder; name one file`)
  if (!found.isFile()) return false
  try {
    const head = Buffer.alloc(2)
    const file = openSync(path, 'r')
    readSync(file, head)
    closeSync(file)
    return !isGzip(head)
  } catch (cause) {
    throw new MillraceError('SOURCE_FAILED', `--input: ${path} cannot be read: ${messageOf(cause)}`, { cause })
  }
}
