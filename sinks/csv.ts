/**
 * One row of CSV as RFC 4180 has it, with `\n` for its end. A text is quoted when it holds a comma, a quote or a line
 * break, begins or ends with a space, or is empty: so an empty text and no value, which is written as nothing, stay
 * apart. Objects and lists are written as JSON, dates in ISO 8601.
 *
 * Cells are written as they are. A spreadsheet may take a text that begins with `=`, `+`, `-` or `@` for a formula and
 * run it: where rows hold what strangers typed, import such a file as text.
 */
export const csvRow = (cells: readonly unknown[]): string => `${cells.map(cell).join(',')}\n`

function cell(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value !== 'object') return quoted(String(value))
  return quoted(value instanceof Date ? value.toISOString() : JSON.stringify(value))
}

const quoted = (text: string): string =>
  text === '' || /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
