import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Place } from './finding.ts'

/** Whose code a line of a stack is. */
type Owner = 'author' | 'engine' | 'library' | 'node'

const OWN = new URL('../../', import.meta.url).href
const FOLDERS = /^(core|operators|sources|sinks|state|embedded|cli)\//
const FRAME = /\(?((?:file:\/\/|node:|\/)[^()]*?):(\d+):\d+\)?$/

/** Raises what stacks hold, so that an author's line is in them under all operators of a pipe. */
export function withDeepStacks<T>(work: () => T): T {
  const before = Error.stackTraceLimit
  Error.stackTraceLimit = 60
  try {
    return work()
  } finally {
    Error.stackTraceLimit = before
  }
}

/** The author's line that is nearest to the top of a stack. */
export function authorsLine(stack: string | undefined): Place | undefined {
  return frames(stack).find(({ owner }) => owner === 'author')?.place
}

/** The author's line that called what is at the top of the stack, unless the engine called it for itself. */
export function calledByAuthor(stack: string | undefined, self: string): Place | undefined {
  for (const { owner, url, place } of frames(stack)) {
    if (url === self || url === import.meta.url) continue
    if (owner === 'author') return place
    if (owner === 'engine') return undefined
  }
  return undefined
}

/** Whether a file is the author's: neither Millrace's nor of a package. */
export function isAuthors(file: string): boolean {
  return ownerOf(pathToFileURL(file).href) === 'author'
}

function frames(stack = ''): { owner: Owner; url: string; place: Place }[] {
  return stack.split('\n').flatMap((line) => {
    const [, where, at] = FRAME.exec(line.trim()) ?? []
    if (where === undefined) return []
    const url = where.startsWith('/') ? `file://${where}` : where
    const file = url.startsWith('file://') ? fileURLToPath(url.replace(/\?.*$/, '')) : url
    return [{ owner: ownerOf(url), url, place: { file, line: Number(at) } }]
  })
}

function ownerOf(url: string): Owner {
  if (url.startsWith('node:')) return 'node'
  const [, inPackage] = /\/node_modules\/millrace\/(?:dist\/)?(.+)$/.exec(url) ?? []
  const own = inPackage ?? (url.startsWith(OWN) ? url.slice(OWN.length) : undefined)
  if (own !== undefined && FOLDERS.test(own)) return 'engine'
  return url.includes('/node_modules/') ? 'library' : 'author'
}
