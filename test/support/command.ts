import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT } from './project.ts'

/** How a command ended. */
export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A folder of a user, in which `millrace` can be run. */
export interface Place {
  readonly folder: string
  path(name: string): string
  write(name: string, text: string): string
  /** Starts a command; `ended` resolves when it has. */
  start(...args: string[]): ChildProcess & { readonly ended: Promise<Ended> }
  run(...args: string[]): Promise<Ended>
  /** Ids of the rows that the pipeline of `pipelineText` wrote, in their order. */
  rows(): number[]
  remove(): void
}

/** A folder with the packages that a pipeline file imports. */
export function place(folder = mkdtempSync(join(tmpdir(), 'millrace-cli-'))): Place {
  mkdirSync(join(folder, 'node_modules'), { recursive: true })
  symlinkSync(ROOT, join(folder, 'node_modules/millrace'))
  symlinkSync(join(ROOT, 'node_modules/zod'), join(folder, 'node_modules/zod'))
  const start: Place['start'] = (...args) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' }
    const child = spawn(process.execPath, [join(ROOT, 'bin/millrace.js'), ...args], { cwd: folder, env })
    let out = ''
    let err = ''
    child.stdout.on('data', (data) => {
      out += data
    })
    child.stderr.on('data', (data) => {
      err += data
    })
    const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, out, err })))
    return Object.assign(child, { ended })
  }
  return {
    folder,
    path: (name) => join(folder, name),
    write(name, text) {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    },
    start,
    run: (...args) => {
      const child = start(...args)
      child.stdin?.end()
      return child.ended
    },
    rows: () =>
      readdirSync(folder)
        .filter((name) => /^rows-\d+\.jsonl$/.test(name))
        .flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n').filter(Boolean))
        .map((line) => JSON.parse(line).id),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** A pipeline from `events` to the file `rows.jsonl`, with state; its parts can be others. */
export function pipelineText({
  operators = "dedup({ by: (e) => String(e.id), within: '1d' })",
  outputs = "rows: kept.to(file({ path: 'rows.jsonl' }))",
} = {}): string {
  return `import { pipeline } from 'millrace'
import { absence, dedup, map, scan, tap } from 'millrace/operators'
import { console as lines, file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'

const Event = z.object({ id: z.number(), at: z.number() })
const events = fromKafka({ topic: 'events', schema: Event, key: (e) => e.id % 10, time: (e) => e.at, lateness: '1m' })
const kept = events.pipe(${operators})
export const mine = pipeline('mine', { ${outputs} })
export const used = [absence, dedup, map, scan, tap, lines, file]
`
}

/** Lines of events from one id up to, and not, another. */
export function eventLines(from: number, to: number): string {
  return Array.from(
    { length: to - from },
    (_, i) => `{"id":${from + i},"at":${1_700_000_000_000 + (from + i) * 1_000}}\n`,
  ).join('')
}
