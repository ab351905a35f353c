/**
 * Each operator alone: records a second through a task of the engine, its state committed to the disk, beside a plain
 * loop that computes the same and keeps nothing; with ten thousand keys and with a million.
 *
 *     npx node --conditions=source bench/operators.ts [--records 2000000] [--only dedup] [--json]
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { pipeline } from 'millrace'
import { filter } from 'millrace/operators'
import { stream } from '../core/stream.ts'
import { countingSink } from '../test/support/counting-sink.ts'
import { anything, numberSource } from '../test/support/number-source.ts'
import { runToEnd } from '../test/support/run.ts'
import { CASES, keyOf } from './operator-cases.ts'

const { values: args } = parseArgs({
  options: {
    records: { type: 'string', default: '2000000' },
    only: { type: 'string' },
    one: { type: 'string' },
    keys: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const records = Number(args.records)

/** A case in this process, its loop first. */
async function one(name: string, keys: number) {
  const { flow, loop } = CASES[name]!
  const plain = loop()
  let began = performance.now()
  let kept = 0
  for (let n = 0; n < records; n++) kept += plain({ n, key: keyOf(n, keys), at: 1_700_000_000_000 + n })
  const loopSeconds = (performance.now() - began) / 1_000
  const dataDir = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  try {
    const numbers = stream(numberSource(records), { schema: anything, key: (e) => keyOf(e.n, keys), time: (e) => e.at })
    let given = 0
    const out = flow(numbers).pipe(filter(() => ++given < 0))
    began = performance.now()
    const { read } = await runToEnd(pipeline('bench', { out: out.to(countingSink({ keep: false })) }), dataDir, {})
    const seconds = (performance.now() - began) / 1_000
    if (read !== records) throw new Error(`${read} of ${records} were read`)
    return { name, keys, perSecond: records / seconds, loopPerSecond: records / loopSeconds, given, kept }
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
}

if (args.one !== undefined) console.log(JSON.stringify(await one(args.one, Number(args.keys))))
else {
  const figures: Awaited<ReturnType<typeof one>>[] = []
  for (const name of Object.keys(CASES).filter((each) => args.only === undefined || args.only === each)) {
    for (const keys of [10_000, 1_000_000]) {
      const child = [
        '--conditions=source',
        import.meta.filename,
        '--one',
        name,
        '--keys',
        String(keys),
        '--records',
        args.records,
      ]
      const figure = JSON.parse(execFileSync(process.execPath, child, { encoding: 'utf8' })) as (typeof figures)[number]
      figures.push(figure)
      const { perSecond, loopPerSecond } = figure
      if (!args.json)
        console.log(
          `${name.padEnd(12)} ${String(keys).padStart(8)} keys  ${Math.round(perSecond / 1_000)} thousand/s, a loop ${Math.round(loopPerSecond / 1_000)}: ${(perSecond / loopPerSecond).toFixed(2)}`,
        )
    }
  }
  if (args.json) console.log(JSON.stringify(figures))
}
