import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MillraceError } from '../core/errors.ts'
import { renderPage } from './markdown.ts'
import { PACKAGE_DIR } from './package.ts'
import { out, plain } from './terminal.ts'

const DOCS = join(PACKAGE_DIR, 'docs')

/**
 * Prints a page of the reference, or of `docs/`.
 *
 * @throws MillraceError BAD_OPTION when there is none of that name
 */
export function printDocs(name: string | undefined): void {
  const page = readFileSync(pathOf(name), 'utf8')
  out.write(out.isTTY ? renderPage(page, out) : page)
}

function pathOf(name: string | undefined): string {
  if (name === undefined) return join(DOCS, 'reference/README.md')
  const files = [...readdirSync(join(DOCS, 'reference')).map((file) => `reference/${file}`), ...readdirSync(DOCS)]
  const pages = new Map(files.filter((file) => /\.md$/.test(file)).map((file) => [titleOf(file).toLowerCase(), file]))
  const wanted = name.toLowerCase()
  const found =
    pages.get(ALSO[wanted] ?? wanted) ?? [`${name}.md`, `reference/${name}.md`].find((file) => files.includes(file))
  if (found && existsSync(join(DOCS, found))) return join(DOCS, found)
  const near = [...pages.values()]
    .map(titleOf)
    .filter(
      (title) =>
        title.toLowerCase().includes(wanted.slice(0, 4)) ||
        edits(title.toLowerCase(), wanted) <= Math.max(1, wanted.length >> 2),
    )
  throw new MillraceError(
    'BAD_OPTION',
    `there is no page on ${JSON.stringify(plain(name))}${near.length > 0 ? `; near to it: ${near.join(', ')}` : ''}; \`millrace docs\` lists what there is`,
  )
}

/** What is explained on another page. */
const ALSO: Readonly<Record<string, string>> = { split: 'route' }

/** How many letters must be changed, added or left out to make one text of the other (Levenshtein). */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)))
    row = next
  }
  return row[to.length]!
}

/** The first heading of a page is its name. */
const titleOf = (file: string): string => /^# (.*)$/m.exec(readFileSync(join(DOCS, file), 'utf8'))?.[1] ?? file
