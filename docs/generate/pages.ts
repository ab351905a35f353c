import { errorsPage } from './errors.ts'
import { marbleSvg } from './marble-svg.ts'
import { diagramOf, drawn } from './marbles.ts'
import { type Entry, pageName, readEntries } from './reference.ts'

/** All generated pages and pictures: their path from `docs/`, and what is in them. */
export async function generatedPages(): Promise<ReadonlyMap<string, string>> {
  const entries = readEntries()
  const pages = new Map([
    ['errors.md', errorsPage()],
    ['reference/README.md', overview(entries)],
  ])
  for (const entry of entries) {
    pages.set(`reference/${pageName(entry)}.md`, page(entry))
    if (drawn(entry.name)) pages.set(`reference/${pageName(entry)}.svg`, marbleSvg(await diagramOf(entry.name)))
  }
  return pages
}

const cell = (text: string) => text.replaceAll('|', '\\|')
const firstSentence = (text: string) =>
  /^.*?[.:](?= |\n|$)/s.exec(text)?.[0].replaceAll('\n', ' ').replace(/:$/, '.') ?? text

function overview(entries: readonly Entry[]): string {
  const list = (kind: Entry['kind']) =>
    entries
      .filter((entry) => entry.kind === kind)
      .map((entry) => `| [\`${entry.name}\`](${pageName(entry)}.md) | ${cell(firstSentence(entry.text))} |`)
      .join('\n')
  return `# Reference

A page for each operator, source and sink, made of the code's own comments and types by \`npm run docs\`. On the terminal:
\`npx millrace docs absence\`.

| operators | |
|---|---|
${list('operator')}

| sources | |
|---|---|
${list('source')}

| sinks | |
|---|---|
${list('sink')}
`
}

function page(entry: Entry): string {
  const { name, kind, from, file, signatures, text, examples, throws, options, sides, guarantee } = entry
  const sections = [
    `# ${name}`,
    `${kind === 'operator' ? 'An operator' : kind === 'source' ? 'A source' : 'A sink'}: \`import { ${name} } from '${from}'\`${guarantee === undefined ? '' : ` · guarantee: **${guarantee}**`}`,
    drawn(name) ? `![A marble diagram of ${name}](${pageName(entry)}.svg)` : '',
    text,
    ...examples.map(({ title, code }) => `${title === '' ? '' : `${title}:\n\n`}\`\`\`ts\n${code}\n\`\`\``),
    options.length === 0 ? '' : `## Options\n\n${table(options)}`,
    sides.length === 0
      ? ''
      : `## Side streams\n\n${sides.map((side) => `- \`.side('${side.name}')\` gives \`${side.type}\``).join('\n')}`,
    throws.length === 0 ? '' : `## Errors\n\n${throws.map((one) => `- ${one}`).join('\n')}`,
    `## Signature\n\n\`\`\`ts\n${signatures.join('\n')}\n\`\`\``,
    `Made from [${file}](../../${file}) by \`npm run docs\`.`,
  ]
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`
}

function table(options: Entry['options']): string {
  const own = [...options].sort((a, b) => Number(b.required) - Number(a.required))
  const rows = own.map(({ name, type, required, fallback, meaning }) => {
    const standard = required ? '*needed*' : (fallback ?? '')
    return `| \`${name}\` | \`${cell(type)}\` | ${cell(standard)} | ${cell(meaning)} |`
  })
  return ['| option | type | default | meaning |', '|---|---|---|---|', ...rows].join('\n')
}
