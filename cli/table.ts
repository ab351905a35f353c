import { fit, plain, type Terminal, widthOf } from './terminal.ts'

/** A column of a table. */
export interface TableColumn {
  readonly title: string
  /** @default 'left' */
  readonly align?: 'left' | 'right'
}

/** A table as it is to be drawn. */
export interface TableOptions {
  readonly columns: readonly TableColumn[]
  /** Cells in the columns' order; they may hold anything: control characters are shown as escapes. */
  readonly rows: readonly (readonly string[])[]
  /** The terminal it is drawn for: its width bounds the table, and its colours are used. */
  readonly on: Pick<Terminal, 'width' | 'style'>
}

const NARROWEST = 6
const WIDEST_IN_A_PIPE = 120

/**
 * Draws a table as a box, with numbers to the right. On a terminal it is never wider than that: the widest columns give
 * way first, cut cells end in an ellipsis, and columns that find no room at all are named below. In a pipe only single
 * cells are bounded.
 */
export function renderTable({ columns, rows, on }: TableOptions): string {
  const cells = rows.map((row) => columns.map((_, column) => plain(row[column] ?? '')))
  const wanted = columns.map(({ title }, column) =>
    cells.reduce((most, row) => Math.max(most, widthOf(row[column]!)), widthOf(plain(title))),
  )
  const widths = shrink(wanted, on.width)
  const shown = columns.slice(0, widths.length)
  const line = (texts: readonly string[], style: (text: string) => string = (text) => text) =>
    `│ ${shown.map(({ align }, column) => style(pad(texts[column]!, widths[column]!, align))).join(' │ ')} │`
  const rule = (left: string, middle: string, right: string) =>
    left + widths.map((width) => '─'.repeat(width + 2)).join(middle) + right
  const left = columns.slice(widths.length).map(({ title }) => plain(title))
  return [
    rule('┌', '┬', '┐'),
    line(
      shown.map(({ title }) => plain(title)),
      (text) => on.style('bold', text),
    ),
    rule('├', '┼', '┤'),
    ...cells.map((row) => line(row)),
    rule('└', '┴', '┘'),
    ...(left.length > 0 ? [on.style('dim', `too narrow for: ${left.join(', ')}`)] : []),
    '',
  ].join('\n')
}

function pad(text: string, width: number, align: TableColumn['align'] = 'left'): string {
  const cut = fit(text, width)
  const space = ' '.repeat(Math.max(0, width - widthOf(cut)))
  return align === 'right' ? space + cut : cut + space
}

/** Widths that fit: the widest is narrowed again and again; when all are narrow, the last columns go. */
function shrink(wanted: readonly number[], width: number | undefined): number[] {
  const widths = wanted.map((width) => Math.max(1, Math.min(width, WIDEST_IN_A_PIPE)))
  if (width === undefined) return widths
  const room = () => width - 1 - 3 * widths.length
  while (widths.length > 1 && widths.reduce((sum, width) => sum + Math.min(width, NARROWEST), 0) > room()) widths.pop()
  for (let over = widths.reduce((sum, width) => sum + width, 0) - room(); over > 0; over--) {
    const widest = widths.indexOf(Math.max(...widths))
    if (widths[widest]! <= 1) break
    widths[widest]!--
  }
  return widths
}
