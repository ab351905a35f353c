import { realpathSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import type { MillraceError } from '../../core/errors.ts'
import { type Pipeline, planOf } from '../../core/pipeline.ts'
import { DEFAULT_DATA } from '../defaults.ts'
import { asMillraceError } from '../exit-code.ts'
import { inputsOf } from '../inputs.ts'
import { loadWatched } from '../watched.ts'
import { type Finding, Findings, type Place } from './finding.ts'
import { flowRules } from './flow-rules.ts'
import { partitionRules } from './partition-rules.ts'
import { planRules, unusedRules } from './plan-rules.ts'
import { lineAt, sourceTexts } from './source-text.ts'
import { storedRules } from './stored-rules.ts'
import { textRules } from './text-rules.ts'
import { checkTypes } from './types.ts'

export interface CheckOptions {
  /** The data directory to compare with. @default the usual one, if it is there */
  readonly data?: string | undefined
  /** The Redis that keeps the state, `redis://…`. @default the data directory keeps it */
  readonly store?: string | undefined
  /** `NAME=PATH`, as for a run. @default records are made by the schemas */
  readonly inputs?: readonly string[]
  /** Whether the compiler is asked. @default true */
  readonly types?: boolean
}

/** What was found in a file, and what was looked at. */
export interface Report {
  readonly file: string
  readonly findings: readonly Finding[]
  readonly pipelines: readonly string[]
  readonly types: string
  readonly samples: string
  readonly stored: string
}

/**
 * Looks at a pipeline file: at its types, its graph, its text, what is stored of it, and at what it does with a sample.
 *
 * @throws MillraceError NOT_FOUND when the file or something that is named beside it is not there; BAD_OPTION for an
 * input that it has no source for
 */
export async function checkFile(
  file: string,
  { data, store, inputs = [], types = true }: CheckOptions = {},
): Promise<Report> {
  const path = resolve(file)
  const findings = new Findings(path)
  const typed = types ? checkTypes(path, findings) : Promise.resolve('not checked')
  typed.catch(() => undefined)
  const looked = await look(file, path, { data, store, inputs }, findings)
  return { file: path, ...looked, types: await typed, findings: findings.all() }
}

async function look(
  file: string,
  path: string,
  { data, store, inputs }: { data: string | undefined; store: string | undefined; inputs: readonly string[] },
  findings: Findings,
): Promise<Pick<Report, 'pipelines' | 'samples' | 'stored'>> {
  let loaded: Awaited<ReturnType<typeof loadWatched>>
  try {
    loaded = await loadWatched(file)
  } catch (thrown) {
    const error = asMillraceError(thrown)
    if (error.code === 'NOT_FOUND') throw error
    findings.add({ code: error.code, ...placed(error, file, path), instead: 'see what the message says' })
    textRules(sourceTexts(path), findings)
    return { pipelines: [], samples: 'not tried', stored: 'not compared' }
  }
  const { pipelines, parts } = loaded
  const given = pipelines.map((pipeline) => inputsFor(pipeline, inputs))
  const lost = inputs.find((input) => !given.some((own) => own.includes(input)))
  if (lost !== undefined) inputsOf(pipelines[0]!, [lost], true)
  textRules(sourceTexts(path), findings)
  unusedRules(pipelines, parts, findings)
  const samples: string[] = []
  const stored: string[] = []
  for (const [i, pipeline] of pipelines.entries()) {
    planRules(pipeline, parts, findings)
    stored.push(await storedRules(pipeline, parts, { data, store }, findings))
    const partitions = await partitionRules(pipeline, parts, data ?? DEFAULT_DATA, findings)
    const inputs = inputsOf(pipeline, given[i]!, true)
    samples.push(await flowRules({ pipeline, parts, inputs, partitions, findings }))
  }
  const once = (texts: readonly string[]) => [...new Set(texts)].join('; ')
  return { pipelines: pipelines.map(({ name }) => name), samples: once(samples), stored: once(stored) }
}

function inputsFor(pipeline: Pipeline, inputs: readonly string[]): string[] {
  const { sources } = planOf(pipeline).plan
  return inputs.filter((input) => sources.some(({ name }) => input.startsWith(`${name}=`)))
}

/** An error of loading names its line in front; for what is not there, it is the line that asks for it, or makes it. */
function placed(error: MillraceError, file: string, path: string): { place: Place; problem: string } {
  const { message } = error
  const [, line] = message.startsWith(`${file}:`) ? (/^:(\d+)/.exec(message.slice(file.length)) ?? []) : []
  const own = message.startsWith(file) ? message.slice(file.length).replace(/^:\d+/, '').replace(/^:? /, '') : message
  const problem = own.replaceAll(`${dirname(path)}/`, './')
  if (line !== undefined) return { place: { file: realpathSync(path), line: Number(line) }, problem }
  const missing = /imports '([^']+)'/.exec(message)?.[1]
  for (const { file: at, text, code } of sourceTexts(path)) {
    const index = missing === undefined ? code.search(/\bpipeline\s*\(/) : text.indexOf(`${basename(missing)}'`)
    if (index !== -1) return { place: { file: at, line: lineAt(text, index) }, problem }
  }
  return { place: { file: realpathSync(path), line: 0 }, problem }
}
