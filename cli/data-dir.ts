import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { MillraceError, messageOf } from '../core/errors.ts'
import { DEFAULT_DATA } from './defaults.ts'

/** The state file of a data directory. */
export function statePath(dataDir: string): string {
  return join(dataDir, 'state.db')
}

/**
 * Makes the data directory, with a `.gitignore`: what is in it are events of people, and belongs in no repository.
 *
 * @returns its absolute path
 * @throws MillraceError DATA_DIR_UNWRITABLE
 */
export function makeDataDir(data: string): string {
  const dataDir = resolve(data)
  try {
    if (!existsSync(dataDir)) {
      mkdirSync(dataDir, { recursive: true })
      writeFileSync(join(dataDir, '.gitignore'), '*\n')
    }
    return dataDir
  } catch (cause) {
    throw new MillraceError(
      'DATA_DIR_UNWRITABLE',
      `data directory ${dataDir} cannot be made: ${messageOf(cause)}. Give this user the right to write there, or choose another place with --data`,
      { cause },
    )
  }
}

/**
 * The data directory of a pipeline that was run.
 *
 * @returns its absolute path
 * @throws MillraceError NOT_FOUND
 */
export function existingDataDir(data: string): string {
  const dataDir = resolve(data)
  if (existsSync(dataDir)) return dataDir
  throw new MillraceError(
    'NOT_FOUND',
    `there is no data directory ${data}: run a pipeline first, or say with --data where it is`,
  )
}

/** ` --data DIR` for commands that are suggested to the reader; nothing when it is the default. */
export function dataFlag(data: string): string {
  if (data === DEFAULT_DATA) return ''
  return ` --data ${/^[\w./-]+$/.test(data) ? data : `'${data.replaceAll("'", "'\\''")}'`}`
}

/** A path as a person would type it here. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path) || '.'
  return short.startsWith('..') ? path : short
}
