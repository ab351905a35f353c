import { relative } from 'node:path'
import { counted } from '../format.ts'
import { out, plain, type Terminal } from '../terminal.ts'
import { checkFile, type Report } from './check-file.ts'
import type { Finding, Level } from './finding.ts'

interface Options {
  readonly data?: string
  readonly store?: string
  readonly input: readonly string[]
  readonly json?: true
}

/** Checks a file, prints what was found, and sets the exit code. @throws MillraceError */
export async function showCheck(file: string, { data, store, input, json }: Options): Promise<void> {
  const report = await checkFile(file, { data, store, inputs: input })
  out.write(json ? `${checkJson(report)}\n` : checkText(report, out))
  if (report.findings.some(({ level }) => level !== 'note')) process.exitCode = 1
}

/** What `--json` prints: the report, with paths from the current folder. */
export function checkJson({ findings, file, ...report }: Report): string {
  return JSON.stringify({
    file: short(file),
    ...report,
    findings: findings.map((finding) => ({ ...finding, file: short(finding.file) })),
  })
}

const STYLE = { error: 'red', warning: 'yellow', note: 'cyan' } as const satisfies Record<Level, string>

/** Findings as a person reads them: place, what is wrong, and what to write instead. */
export function checkText(
  { findings, types, samples, stored, pipelines }: Report,
  on: Pick<Terminal, 'style' | 'width'>,
): string {
  const width = Math.min(on.width ?? 110, 110)
  const lines = findings.flatMap((finding) => [
    `${on.style('bold', placeOf(finding))}  ${on.style(STYLE[finding.level], finding.level)} ${finding.code}${finding.operator === null ? '' : on.style('dim', `  ${plain(finding.operator)}`)}`,
    ...wrapped(plain(finding.problem), width - 2).map((line) => `  ${line}`),
    ...wrapped(`instead: ${plain(finding.instead)}`, width - 2).map((line) => `  ${on.style('green', line)}`),
    '',
  ])
  const counts = (['error', 'warning', 'note'] as const).flatMap((level) => {
    const found = findings.filter((finding) => finding.level === level).length
    return found === 0 ? [] : [counted(found, level)]
  })
  const title = pipelines.length === 0 ? '' : `${pipelines.join(', ')}: `
  return [
    ...lines,
    `${title}${counts.length === 0 ? 'nothing found' : counts.join(', ')}`,
    ...[`types    ${types}`, `flow     ${samples}`, `state    ${stored}`].map((line) => on.style('dim', line)),
    '',
  ].join('\n')
}

function placeOf({ file, line }: Finding): string {
  return line === 0 ? short(file) : `${short(file)}:${line}`
}

function short(path: string): string {
  const from = relative(process.cwd(), path)
  return from === '' || from.startsWith('..') ? path : from
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length + 1 > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
