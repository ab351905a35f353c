import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Report } from '../../cli/check/check-file.ts'
import { FINDINGS } from '../../cli/check/finding.ts'
import { ROOT } from '../support/project.ts'

/** What is to be found in each file: code, line, and words of the problem and of what to write instead. */
const MISTAKES: Readonly<Record<string, readonly [code: string, line: number, problem: RegExp, instead: RegExp]>> = {
  'async-filter': ['PROMISE', 7, /always counts as yes/, /mapAsync/],
  'big-name': ['BAD_OPTION', 7, /small letters, digits and dashes, got 'My Pipeline'/, /message/],
  'by-constant': ['BY_CONSTANT', 6, /gives the same for all records/, /leave by away/],
  'by-country': ['BY_IS_FINER', 6, /nothing is added up over keys/, /key of the source/],
  'calls-not-made': ['CALLS_NOT_MADE', 6, /makes no calls/, /tests of its own/],
  'changes-the-record': ['MUTATION', 8, /read only property 'amount'/, /\{ \.\.\.e/],
  'changes-the-state': ['MUTATION', 13, /does not own/, /\[\.\.\.list, item\]/],
  'clock-in-sink': ['WALL_CLOCK', 12, /new Date\(\)/, /meta\.now\(\)/],
  'console-only': ['AT_LEAST_ONCE', 8, /come twice/, /file or clickhouse/],
  'counts-in-a-variable': ['HIDDEN_STATE', 7, /between records, in a variable/, /state of scan/],
  'date-now': ['WALL_CLOCK', 6, /Date\.now\(\)/, /meta\.time/],
  'fetch-in-tap': ['SIDE_EFFECT', 8, /fetch\(\).*happens twice/, /end a branch in a sink/],
  'keeps-for-years': ['STATE_UNBOUNDED', 6, /3,650 days/, /ttl/],
  'key-by-coarser': [
    'KEY_APART',
    24,
    /leaves them in their 4 partitions: scan keeps a state/,
    /put repartition in the place of keyBy/,
  ],
  'key-constant': ['KEY_CONSTANT', 6, /same for all records/, /a person, a cart/],
  'key-missing': ['KEY_MISSING', 6, /is undefined/, /required in the schema/],
  'mails-without-dedup': ['REPEATS_REACH_PEOPLE', 8, /a second mail/, /dedup/],
  'math-random': ['CHANCE', 6, /Math\.random\(\)/, /meta\.random\(\)/],
  'missing-import': ['BAD_PIPELINE', 5, /imports '\.\/nowhere\.ts'/, /message/],
  'new-date': ['WALL_CLOCK', 8, /new Date\(\)/, /meta\.now\(\)/],
  'no-lateness': ['LATENESS_MISSING', 7, /absence waits/, /lateness: '1m'/],
  'no-recipient': ['ROW_REFUSED', 8, /recipient must give a text, got undefined/, /required in the schema/],
  'not-exported': ['BAD_PIPELINE', 7, /exports no pipeline: end it with export const/, /message/],
  'output-unused': ['OUTPUT_UNUSED', 7, /nothing is written/, /among the outputs/],
  'own-operator-forgets': ['HIDDEN_STATE', 5, /numbered gives other results/, /with a ttl/],
  'people-unguarded': ['PEOPLE_UNGUARDED', 14, /reaches people, and sms cannot tell/, /such as esp/],
  'performance-now': ['WALL_CLOCK', 6, /performance\.now\(\)/, /meta\.now\(\)/],
  'promise-to-map': ['PROMISE', 7, /gives a promise/, /mapAsync/],
  'random-uuid': ['CHANCE', 7, /randomUUID\(\)/, /meta\.id\(\)/],
  'redis-forever': ['KEPT_FOREVER', 8, /for ever/, /30d/],
  'remembers-in-a-set': ['HIDDEN_STATE', 7, /filter gives other results/, /scan or dedup/],
  'rxjs-buffer-time': ['RXJS_STATE', 9, /bufferTime of RxJS/, /window/],
  'rxjs-debounce': ['RXJS_STATE', 6, /debounceTime of RxJS/, /absence/],
  'rxjs-own': ['HIDDEN_STATE', 17, /RxJS operator at place 1/, /scan or dedup/],
  'rxjs-own-open': ['RXJS_STATE', 8, /did not complete/, /mapAsync waits/],
  'rxjs-scan': ['RXJS_STATE', 6, /scan of RxJS/, /scan of millrace\/operators/],
  'rule-depends-on-order': ['FLOW_BROKE_RULES', 7, /rule for spent is not idempotent/, /maximum or a union/],
  'same-name': ['BAD_PIPELINE', 10, /two operators are called "scan"/, /message/],
  'sample-needed': ['SAMPLE_NEEDED', 7, /says more than JSON Schema can/, /--input events=/],
  'sorts-a-list': ['MUTATION', 6, /read only property '0'/, /toSorted/],
  'stream-unused': ['STREAM_UNUSED', 6, /used by nothing/, /take what .pipe gives/],
  throws: ['THROWS', 6, /reading 'toLowerCase'/, /handle the case/],
  'time-in-seconds': ['TIME_UNUSABLE', 6, /that are seconds/, /times 1000/],
  'time-is-a-text': ['TIME_UNUSABLE', 6, /gives a text/, /Date\.parse/],
  'timeout-in-tap': ['SIDE_EFFECT', 9, /setTimeout\(\)/, /sink/],
  'trust-forgets-a-source': ['THROWS', 8, /trust does not name the source 'web'$/, /^name every source in it/],
  types: ['TYPES', 6, /'amout' does not exist/, /types fit/],
  'writes-a-file': ['SIDE_EFFECT', 7, /appendFileSync\(\)/, /sink/],
  'zero-within': ['BAD_OPTION', 6, /positive duration such as '24h', got '0s'/, /message/],
}

const folder = mkdtempSync(join(tmpdir(), 'millrace-mistakes-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const reports = new Map<string, Report>()
beforeAll(async () => {
  // epoch seconds, where milliseconds are wanted
  const seconds = join(folder, 'seconds.jsonl')
  const record = { id: 'a', who: 'x', type: 'view', country: 'de', amount: 1, tags: ['t'], at: 1_767_571_200 }
  writeFileSync(seconds, `${JSON.stringify(record)}\n`)
  const check = async (types: string, names: readonly string[]) => {
    const files = names.map((name) => `test/check/mistakes/${name}.ts`)
    const inputs = files.map((file) => (file.includes('time-in-seconds') ? `${file} events=${seconds}` : file))
    const args = ['--conditions=source', 'test/support/check-mistakes.ts', types, ...inputs]
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT })
    for (const line of stdout.trim().split('\n')) {
      const report = JSON.parse(line) as Report
      reports.set(basename(report.file, '.ts'), report)
    }
  }
  await check('no-types', [...Object.keys(MISTAKES).filter((name) => name !== 'types'), 'clean'])
  await check('types', ['types'])
}, 60_000)

test('every planted mistake is listed, and there are enough of them', () => {
  const files = readdirSync(join(ROOT, 'test/check/mistakes')).map((name) => basename(name, '.ts'))
  expect(files.sort()).toEqual([...Object.keys(MISTAKES), 'clean', 'events'].sort())
  expect(files.length).toBeGreaterThan(40)
})

test.each(Object.entries(MISTAKES))(
  '%s is found, on its line, and nothing else',
  (name, [code, line, problem, instead]) => {
    const found = reports.get(name)!.findings
    expect(found).toHaveLength(1)
    expect(found[0]).toMatchObject({ code, line })
    expect(basename(found[0]!.file)).toBe(`${name}.ts`)
    expect(found[0]!.problem).toMatch(problem)
    expect(found[0]!.instead).toMatch(instead)
  },
)

test('a file without a mistake gives nothing', () => {
  expect(reports.get('clean')).toMatchObject({ findings: [], samples: expect.stringMatching(/^240 records made/) })
})

test('each code has a file in which it is found', () => {
  // these need more than a file, and have tests of their own
  const elsewhere = ['STATE_ORPHANED', 'STATE_SHAPE', 'SOURCE_GONE', 'OUTPUT_GONE', 'SAMPLE_UNFIT', 'OUTPUT_EMPTY']
  const known = new Set([...Object.values(MISTAKES).map(([code]) => code), ...elsewhere])
  expect(Object.keys(FINDINGS).filter((code) => !known.has(code))).toEqual([])
})
