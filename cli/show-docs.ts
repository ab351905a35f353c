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
  const found =
    pages.get(name.toLowerCase()) ?? [`${name}.md`, `reference/${name}.md`].find((file) => files.includes(file))
  if (found && existsSync(join(DOCS, found))) return join(DOCS, found)
  const near = [...pages.keys()].filter((title) => title.includes(name.toLowerCase().slice(0, 4)))
  throw new MillraceError(
    'BAD_OPTION',
    `there is no page on ${JSON.stringify(plain(name))}${near.length > 0 ? `; near to it: ${near.join(', ')}` : ''}; \`millrace docs\` lists what there is`,
  )
}

/** The first heading of a page is its name. */
const titleOf = (file: string): string => /^# (.*)$/m.exec(readFileSync(join(DOCS, file), 'utf8'))?.[1] ?? file
