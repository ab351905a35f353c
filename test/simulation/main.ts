import { execFile } from 'node:child_process'
import { end, options, whole } from '../support/arguments.ts'
import { MUTANTS } from './mutants.ts'
import { patch } from './patch.ts'
import type { ScheduleResult } from './schedule.ts'

/**
 * `npm run simulate`: lives through schedules of the engine in a simulated world, and holds each to all that must be so.
 *
 *     -- --schedules 1000000        so many, on all processors
 *     -- --seed 42 --trace          one, step by step
 *     -- --seed 42 --shrink         one that fails, with as few of its faults as it needs
 *     -- --seed 42 --mutant 'no fence' --trace   the same with a broken engine
 *     -- --mutants                  breaks the engine in every known way, which must be seen within 100 seeds
 *     -- --json                     one line at the end
 */
const values = options({
  schedules: { type: 'string', default: '1000' },
  from: { type: 'string', default: '1' },
  seed: { type: 'string' },
  without: { type: 'string', default: '' },
  trace: { type: 'boolean', default: false },
  shrink: { type: 'boolean', default: false },
  mutants: { type: 'boolean', default: false },
  mutant: { type: 'string' },
  json: { type: 'boolean', default: false },
  workers: { type: 'string', default: '2' },
  part: { type: 'string' },
})

interface Sum {
  schedules: number
  crashes: number
  unknownOutcomes: number
  lost: number
  doubled: number
  otherViolations: number
  /** The first seed that failed. */
  failed: number | null
  violations: readonly string[]
}

async function runSeeds(from: number, count: number, stopAtFirst: boolean): Promise<Sum> {
  const { runSchedule } = await import('./schedule.ts')
  const sum: Sum = {
    schedules: 0,
    crashes: 0,
    unknownOutcomes: 0,
    lost: 0,
    doubled: 0,
    otherViolations: 0,
    failed: null,
    violations: [],
  }
  for (let seed = from; seed < from + count; seed++) {
    const result = await runSchedule({ seed })
    sum.schedules++
    sum.crashes += result.crashes
    sum.unknownOutcomes += result.unknownOutcomes
    sum.lost += result.lost
    sum.doubled += result.doubled
    sum.otherViolations +=
      result.violations.length > 0 && result.lost + result.doubled === 0 ? result.violations.length : 0
    if (result.violations.length === 0) continue
    if (sum.failed === null) {
      sum.failed = seed
      sum.violations = result.violations
    }
    if (stopAtFirst) break
  }
  return sum
}

/** One process a processor: helpers of the collector would only take the time of the others. */
const LEAN = ['--conditions=source', '--max-semi-space-size=16', '--single-threaded-gc']

/** Runs this program again, in a process of its own. */
function child(...args: string[]): Promise<Sum> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [...LEAN, import.meta.filename, '--json', ...args],
      { maxBuffer: 1e8 },
      (error, stdout, stderr) => {
        try {
          resolve(JSON.parse(stdout.trim().split('\n').at(-1)!))
        } catch {
          reject(error ?? new Error(stderr))
        }
      },
    )
  })
}

async function oneSeed(seed: number): Promise<void> {
  const { runSchedule } = await import('./schedule.ts')
  const numbers = values.without
    .split(',')
    .filter(Boolean)
    .map((number) => whole('without', number, 0))
  const run = (without: ReadonlySet<number>, trace = false): Promise<ScheduleResult> =>
    runSchedule({ seed, without, ...(trace ? { trace: (text: string) => console.log(text) } : {}) })
  let without = new Set(numbers)
  let result = await run(without, values.trace && !values.shrink)
  if (values.shrink && result.violations.length > 0) {
    // what is left out changes what follows: each fault is tried, from the last to the first, until none can go
    for (let smaller = true; smaller; ) {
      smaller = false
      for (const { number } of [...result.faults].reverse()) {
        const fewer = await run(new Set([...without, number]))
        if (fewer.violations.length === 0 || fewer.faults.length >= result.faults.length) continue
        without = new Set([...without, number])
        result = fewer
        smaller = true
      }
    }
    await run(without, true)
    console.log(`--seed ${seed} --without ${[...without].join(',')}: ${result.faults.length} faults are enough`)
  }
  for (const violation of result.violations) console.log(`violation: ${violation}`)
  if (!values.json)
    console.log(result.violations.length === 0 ? 'all is as it must be' : `${result.violations.length} violations`)
  if (result.violations.length > 0) process.exitCode = 1
}

async function allMutants(): Promise<void> {
  let caught = 0
  let worstSeed = 0
  const missed: string[] = []
  const todo = [...MUTANTS]
  const work = async () => {
    for (let mutant = todo.shift(); mutant; mutant = todo.shift()) {
      const sum = await child('--mutant', mutant.name, '--schedules', '100', '--part', '1')
      if (!values.json)
        console.log(
          sum.failed === null
            ? `NOT SEEN   ${mutant.name}`
            : `seed ${String(sum.failed).padStart(3)}   ${mutant.name}: ${sum.violations[0]}`,
        )
      if (sum.failed === null) missed.push(mutant.name)
      else {
        caught++
        worstSeed = Math.max(worstSeed, sum.failed)
      }
    }
  }
  await Promise.all(Array.from({ length: whole('workers', values.workers, 1) }, work))
  console.log(JSON.stringify({ mutants: MUTANTS.length, caught, worstSeed, ...(missed.length > 0 ? { missed } : {}) }))
  if (missed.length > 0) process.exitCode = 1
}

async function many(): Promise<void> {
  const began = performance.now()
  const all = whole('schedules', values.schedules, 1)
  const from = whole('from', values.from, 0)
  const workers = whole('workers', values.workers, 1)
  const each = Math.ceil(all / workers)
  const parts = Array.from({ length: workers }, (_, i) => ({
    from: from + i * each,
    count: Math.max(0, Math.min(each, all - i * each)),
  }))
  const sums = await Promise.all(
    parts.map((part) => child('--part', String(part.from), '--schedules', String(part.count))),
  )
  const total = (of: (sum: Sum) => number) => sums.reduce((result, sum) => result + of(sum), 0)
  const bad = sums.find((sum) => sum.failed !== null)
  if (bad) {
    console.log(
      `seed ${bad.failed}: ${bad.violations.slice(0, 5).join('; ')}. See it with: npm run simulate -- --seed ${bad.failed} --shrink`,
    )
    process.exitCode = 1
  }
  console.log(
    JSON.stringify({
      schedules: total((sum) => sum.schedules),
      crashes: total((sum) => sum.crashes),
      unknownOutcomes: total((sum) => sum.unknownOutcomes),
      lost: total((sum) => sum.lost),
      doubled: total((sum) => sum.doubled),
      otherViolations: total((sum) => sum.otherViolations),
      seconds: Math.round((performance.now() - began) / 1_000),
    }),
  )
}

if ((values.trace || values.shrink) && values.seed === undefined)
  end('--trace and --shrink show one schedule: name it with --seed')
if (values.mutant !== undefined && !MUTANTS.some(({ name }) => name === values.mutant))
  end(`there is no mutant "${values.mutant}". There are: ${MUTANTS.map(({ name }) => name).join('; ')}`)

if (values.part !== undefined) {
  if (values.mutant !== undefined) patch(values.mutant)
  console.log(
    JSON.stringify(
      await runSeeds(
        whole('part', values.part, 0),
        whole('schedules', values.schedules, 1),
        values.mutant !== undefined,
      ),
    ),
  )
} else if (values.seed !== undefined) {
  if (values.mutant !== undefined) patch(values.mutant)
  await oneSeed(whole('seed', values.seed, 0))
} else if (values.mutants) await allMutants()
else await many()
