import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import { openLog } from '../../embedded/log.ts'
import { eventLines, type Place, pipelineText, place } from '../support/command.ts'
import { named } from '../support/examples.ts'
import { ROOT, textOf } from '../support/project.ts'

let user: Place
beforeEach(() => {
  user = place()
})
afterEach(() => user.remove())

const check = async (...args: string[]) => {
  const { code, out, err } = await user.run('check', ...args)
  return { code, out, err, report: args.includes('--json') && out !== '' ? JSON.parse(out) : undefined }
}
const codes = (report: { findings: { code: string }[] }) => report.findings.map(({ code }) => code)

test.each(['cart-abandonment', 'profile-sync', 'engagement-hourly'])(
  'the shipped pipeline %s gives nothing',
  async (name) => {
    const { code, report } = await check(join(ROOT, `pipelines/${name}.ts`), '--json')
    expect(report).toMatchObject({ pipelines: [name], findings: [] })
    expect(report.types).toMatch(/^checked with TypeScript/)
    expect(report.samples).toMatch(/240 records/)
    expect(code).toBe(0)
  },
)

test('the pipeline of the README gives nothing', async () => {
  user.write('left-carts.ts', named('pipelines/left-carts.ts').code.replace('./schemas', './'))
  user.write('shop-event.ts', textOf('pipelines/schemas/shop-event.ts'))
  const { code, out } = await check('left-carts.ts')
  expect(out).toMatch(/^left-carts: nothing found\n/)
  expect(code).toBe(0)
})

test('what is found is said with its place and what to write instead, and the exit code is 1', async () => {
  user.write('mine.ts', pipelineText({ operators: 'map((e) => ({ ...e, seen: Date.now() }))' }))
  const { code, out } = await check('mine.ts')
  expect(out).toMatch(/^mine\.ts:9 {2}error WALL_CLOCK\n {2}Date\.now\(\) is asked within the flow/)
  expect(out).toMatch(/\n {2}instead: meta\.time is when it happened/)
  expect(out).toMatch(/\nmine: 1 error\ntypes {4}not checked: the project has no TypeScript/)
  expect(code).toBe(1)
  const json = await check('mine.ts', '--json')
  expect(json.out.trim().split('\n')).toHaveLength(1)
  expect(json.report.findings).toMatchObject([{ code: 'WALL_CLOCK', level: 'error', file: 'mine.ts', line: 9 }])
})

test('notes alone do not fail', async () => {
  user.write('mine.ts', pipelineText({ outputs: 'rows: kept.to(lines())' }))
  const { code, out } = await check('mine.ts')
  expect(out).toMatch(/note AT_LEAST_ONCE/)
  expect(code).toBe(0)
})

test('a file that is not there, an input for no source, and a data directory that is not there, are the command line', async () => {
  user.write('mine.ts', pipelineText())
  user.write('events.jsonl', eventLines(0, 3))
  for (const args of [['nowhere.ts'], ['mine.ts', '--input', 'other=events.jsonl'], ['mine.ts', '--data', 'nowhere']]) {
    const { code, err } = await check(...args)
    expect(err).toMatch(/^error (NOT_FOUND|BAD_OPTION):/)
    expect(code).toBe(2)
  }
})

test('an input is tried: records that do not fit, and outputs that stay empty, are said', async () => {
  user.write(
    'mine.ts',
    pipelineText({ operators: 'map((e) => e)', outputs: 'rows: kept.to(file({ path: "rows.jsonl" }))' }),
  )
  user.write('events.jsonl', `${eventLines(0, 8)}{"id":"x"}\nno JSON\n`)
  const unfit = (await check('mine.ts', '--input', 'events=events.jsonl', '--json')).report
  expect(unfit.findings).toMatchObject([
    { code: 'SAMPLE_UNFIT', problem: expect.stringMatching(/^2 of 10 records do not fit the schema of "events"/) },
  ])
  user.write('events.jsonl', eventLines(0, 8))
  const { report } = await check('mine.ts', '--input', 'events=events.jsonl', '--json')
  expect(report).toMatchObject({ findings: [], samples: '8 records of the input of events' })
  user.write(
    'none.ts',
    pipelineText({ operators: 'map((e) => e), dedup({ by: (e) => { throw new Error() }, within: "1d" })' }),
  )
  expect(codes((await check('none.ts', '--input', 'events=events.jsonl', '--json')).report)).toEqual(['OUTPUT_EMPTY'])
})

test('nothing of a check is left: no data directory, no rows', async () => {
  user.write('mine.ts', pipelineText())
  await check('mine.ts')
  expect((await user.run('state', 'list')).code).toBe(2)
  expect(user.rows()).toEqual([])
})

test('what a start would refuse is found in the data directory', async () => {
  const counting = (state: string, name = 'count') =>
    `scan({ name: '${name}', state: ${state}, seed: { n: 0 }, step: (s) => ({ ...s, n: s.n + 1 }), ttl: '1d' })`
  user.write('mine.ts', pipelineText({ operators: counting('z.object({ n: z.number() })') }))
  user.write('events.jsonl', eventLines(0, 20))
  const run = await user.run('run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end')
  expect(run.err + run.out).toMatch(/20/)
  const same = await check('mine.ts', '--json')
  expect(same.report).toMatchObject({ findings: [], stored: 'compared with 1 task in .millrace' })

  user.write('shape.ts', pipelineText({ operators: counting('z.object({ n: z.number(), since: z.number() })') }))
  expect(codes((await check('shape.ts', '--json')).report)).toContain('STATE_SHAPE')
  user.write('renamed.ts', pipelineText({ operators: counting('z.object({ n: z.number() })', 'counted') }))
  const renamed = await check('renamed.ts', '--data', '.millrace', '--json')
  expect(renamed.report.findings).toMatchObject([
    { code: 'STATE_ORPHANED', operator: 'count', instead: expect.stringContaining('--rename-state count=NEWNAME') },
  ])
  expect(renamed.code).toBe(1)
  user.write(
    'source.ts',
    pipelineText({ operators: counting('z.object({ n: z.number() })') }).replace("topic: 'events'", "topic: 'others'"),
  )
  expect(codes((await check('source.ts', '--json')).report)).toEqual(['SOURCE_GONE'])
})

test('a key that is in several partitions of the log is found', async () => {
  const text = pipelineText({ operators: 'map((e) => e)' })
  user.write('mine.ts', text)
  const log = await openLog({ dataDir: user.path('.millrace'), log: 'events', partitions: 3, runtime: systemRuntime })
  const lines = eventLines(0, 60).trimEnd().split('\n')
  await log.produce(lines.map((value, id) => ({ key: String(id % 10), value })))
  expect(codes((await check('mine.ts', '--json')).report)).toEqual([])
  await log.produce(lines.map((value, id) => ({ key: `${id}`, value })))
  await log.close()
  const { report, code } = await check('mine.ts', '--json')
  expect(report.findings).toMatchObject([
    {
      code: 'KEY_APART',
      operator: 'events',
      line: 8,
      problem: expect.stringMatching(/10 of 10 keys .* its 3 partitions/),
    },
  ])
  expect(code).toBe(1)
})

test('batches that are staged for an output that is gone are found', async () => {
  const broken = `import { pipeline } from 'millrace'
import { fromFile } from 'millrace/sources'
import { z } from 'zod'
const events = fromFile({ path: 'events.jsonl', schema: z.object({ id: z.number(), at: z.number() }), key: (e) => e.id % 10, time: (e) => e.at })
const stuck = { kind: 'stuck', guarantee: 'idempotent', touches: 'state', open: async () => ({
  identity: 'stuck', encoder: () => ({ head: '', row: () => 'x' }), deliver: async () => ({ kind: 'notSent', reason: 'down' }), close: async () => undefined }) }
export const mine = pipeline('mine', { OUTPUT: events.to(stuck) }, { drain: '100ms' })
`
  user.write('events.jsonl', eventLines(0, 20))
  user.write('mine.js', broken.replace('OUTPUT', 'before'))
  const running = user.start('run', 'mine.js')
  await expect.poll(async () => (await user.run('state', 'size')).out, { timeout: 20_000 }).toMatch(/before/)
  running.kill('SIGKILL')
  await running.ended
  user.write('next.js', broken.replace('OUTPUT', 'after'))
  const { report } = await check('next.js', '--json')
  expect(report.findings).toMatchObject([{ code: 'OUTPUT_GONE', operator: 'before' }])
  expect(report.types).toMatch(/no TypeScript/)
})

test("the project's own TypeScript is asked, by the project's own settings", async () => {
  symlinkSync(join(ROOT, 'node_modules/typescript'), user.path('node_modules/typescript'))
  const mine = pipelineText({ operators: 'map((e) => e.typo)' })
  user.write('mine.ts', mine)
  expect((await check('mine.ts', '--json')).report.types).toMatch(/^checked with TypeScript \S+ in strict mode$/)

  const { compilerOptions } = JSON.parse(textOf('tsconfig.json'))
  const settings = (own: object) =>
    user.write('tsconfig.json', JSON.stringify({ compilerOptions: { ...compilerOptions, types: [], ...own } }))
  user.write('package.json', '{ "type": "module" }')
  symlinkSync(join(ROOT, 'node_modules/@types'), user.path('node_modules/@types'))
  settings({ types: ['node'] })
  const typo = await check('mine.ts', '--json')
  expect(typo.report.types).toMatch(/by tsconfig\.json$/)
  expect(typo.report.findings).toMatchObject([
    { code: 'TYPES', file: 'mine.ts', line: 9, problem: expect.stringContaining("'typo' does not exist") },
  ])
  settings({ types: ['node'], noUnusedLocals: true })
  user.write('mine.ts', pipelineText({ operators: 'map((e) => e)' }).replace('export const used', 'const used'))
  expect((await check('mine.ts', '--json')).report.findings).toMatchObject([
    { code: 'TYPES', line: 11, problem: expect.stringContaining("'used' is declared but") },
  ])
})
