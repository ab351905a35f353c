import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MillraceError, messageOf } from '../core/errors.ts'
import { isPipeline, type Pipeline } from '../core/pipeline.ts'

/**
 * The pipeline that a file exports.
 *
 * @param name which one, when the file exports several
 * @throws MillraceError NOT_FOUND, BAD_PIPELINE
 */
export async function loadPipeline(file: string, name?: string): Promise<Pipeline> {
  const path = resolve(file)
  if (!existsSync(path)) throw new MillraceError('NOT_FOUND', `there is no pipeline file ${path}`)
  let module: Record<string, unknown>
  try {
    module = (await import(pathToFileURL(path).href)) as Record<string, unknown>
  } catch (error) {
    if (error instanceof MillraceError) throw error
    throw new MillraceError('BAD_PIPELINE', `${file} does not load: ${messageOf(error)}`, { cause: error })
  }
  const found = [...new Set(Object.values(module).filter(isPipeline))]
  if (found.length === 0) throw new MillraceError('BAD_PIPELINE', `${file} exports no pipeline: write export const mine = pipeline('mine', { … })`)
  const chosen = name === undefined ? found : found.filter((made) => made.name === name)
  if (chosen.length === 1) return chosen[0]!
  const names = found.map((made) => made.name).join(', ')
  throw new MillraceError('BAD_OPTION', `${file} exports the pipelines ${names}: name one of them with --pipeline`)
}
