import { renderTable } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Shows a page of ours on a terminal: headings, code, tables, and paragraphs as wide as they can be read. */
export function renderPage(page: string, on: Terminal): string {
  const width = Math.min(on.width ?? 100, 100)
  const blocks = page.trim().split(/\n\n(?=(?:[^`]|`(?!``)|```[\s\S]*?```)*$)/)
  const shown = blocks.map((block) => {
    const heading = /^(#+) (.*)$/.exec(block)
    if (heading) return on.style(heading[1] === '#' ? 'cyan' : 'bold', heading[2]!)
    if (block.startsWith('```')) return block.replaceAll(/^```\w*\n?|\n?```$/g, '').replaceAll(/^/gm, '    ')
    if (block.startsWith('![')) return ''
    if (block.startsWith('|')) return tableOf(block, on, width)
    const items = block.startsWith('- ') ? block.split(/\n(?=- )/) : [block]
    return items.map((item) => wrapped(inline(item), width)).join('\n')
  })
  return `${shown.filter((block) => block !== '').join('\n\n')}\n`
}

/** Text without the marks of links and code. */
const inline = (text: string): string =>
  text
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, '$1')
    .replaceAll(/(\*\*?)(\S[^*]*)\1/g, '$2')
    .replaceAll('`', '')

/** A table where there is room for it; else row by row. */
function tableOf(block: string, on: Terminal, width: number): string {
  const rows = block.split('\n').map((line) =>
    line
      .replaceAll(/^\||\|$/g, '')
      .split(/(?<!\\)\|/)
      .map((cell) => inline(cell.trim().replaceAll('\\|', '|'))),
  )
  const [titles = [], , ...body] = rows
  const widths = titles.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  if (widths.reduce((sum, each) => sum + each + 3, 1) <= width)
    return renderTable({ columns: titles.map((title) => ({ title })), rows: body, on }).trimEnd()
  return body
    .map(([first, ...cells]) => {
      const meaning = cells.pop()!
      const said = cells.map((cell, i) => `${titles[i + 1]} ${cell || 'none'}`).join(' · ')
      return [on.style('bold', first!), said, wrapped(meaning, width - 4)]
        .filter(Boolean)
        .join('\n')
        .replaceAll('\n', '\n    ')
    })
    .join('\n\n')
}

function wrapped(text: string, width: number): string {
  const lines: string[] = []
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines.join('\n')
}
