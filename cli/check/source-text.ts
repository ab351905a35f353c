import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** A file of the author's, and its code with comments and texts blanked out, letter for letter. */
export interface SourceText {
  readonly file: string
  readonly text: string
  readonly code: string
}

/** The file, and those that it imports by a relative path, as far as they go. */
export function sourceTexts(file: string): SourceText[] {
  const found = new Map<string, SourceText>()
  const visit = (path: string) => {
    if (found.has(path) || !existsSync(path) || path.includes('/node_modules/')) return
    const text = readFileSync(path, 'utf8')
    found.set(path, { file: path, text, code: blanked(text) })
    for (const [, specifier] of text.matchAll(/^(?:import|export)\b[^'"]*?['"](\.[^'"]+)['"]/gm))
      visit(resolve(dirname(path), specifier!))
  }
  visit(existsSync(file) ? realpathSync(file) : file)
  return [...found.values()]
}

/** The line of a place in a text, from 1. */
export function lineAt(text: string, at: number): number {
  let line = 1
  for (let i = text.indexOf('\n'); i !== -1 && i < at; i = text.indexOf('\n', i + 1)) line++
  return line
}

/** From behind an opening bracket to the one that closes it. */
export function closing(code: string, from: number): number {
  let depth = 1
  for (let at = from; at < code.length; at++) {
    if ('([{'.includes(code[at]!)) depth++
    else if (')]}'.includes(code[at]!) && --depth === 0) return at
  }
  return code.length
}

const TOKEN =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|(?<=[=(,:[!&|?{};\n]\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/g

/** Code without its comments, texts and patterns: what a template computes is kept. */
function blanked(text: string): string {
  const blank = (part: string) => part.replace(/[^\n]/g, ' ')
  return text.replace(TOKEN, (token) => {
    if (token[0] !== '`') return blank(token)
    return token
      .split(/(\$\{[^{}]*\})/)
      .map((part) => (part.startsWith('${') ? ` ${part.slice(1)}` : blank(part)))
      .join('')
  })
}
