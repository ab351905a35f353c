import { appendFileSync, existsSync, statSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventLines, type Place, pipelineText, place } from '../support/command.ts'

const EVENTS = 500
const ALL = Array.from({ length: EVENTS }, (_, id) => id)

let here: Place
beforeEach(() => {
  here = place()
  here.write('mine.ts', pipelineText())
  here.write('events.jsonl', eventLines(0, EVENTS))
})
afterEach(() => here.remove())

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !(await what()); await sleep(25))
    if (Date.now() > end) throw new Error(`not so: ${what}`)
}

describe('millrace run', () => {
  test('with --json says what it did in one line of its own', async () => {
    here.write('events.jsonl', `${eventLines(0, EVENTS)}${eventLines(0, 20)}no event\n`)
    const { code, out, err } = await here.run(
      'run',
      'mine.ts',
      '--input',
      'events=events.jsonl',
      '--until-end',
      '--json',
      '--log-level',
      'silent',
    )
    expect([code, err]).toEqual([0, ''])
    expect(out.trimEnd().split('\n')).toHaveLength(1)
    expect(JSON.parse(out)).toEqual({
      pipeline: 'mine',
      read: EVENTS + 21,
      deadLetters: 1,
      duplicates: 20,
      late: 0,
      sinks: { rows: { rows: EVENTS, batches: expect.any(Number), rejected: 0, stagedBatches: 0 } },
      seconds: expect.any(Number),
      eventsPerSecond: expect.any(Number),
      freshness: { p50: expect.any(Number), p99: expect.any(Number) },
      latency: { p50: expect.any(Number), p99: expect.any(Number) },
    })
  })

  test('with --json leaves standard output to that line when a sink prints', async () => {
    here.write('mine.ts', pipelineText({ outputs: 'rows: kept.to(lines())' }))
    const { out, code } = await here.run('run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(out).sinks.rows.rows).toBe(EVENTS)
  })

  test('without it, says the same in words, and how to go on', async () => {
    here.write('events.jsonl', `${eventLines(0, EVENTS)}no event\n`)
    const { out } = await here.run(
      'run',
      'mine.ts',
      '--input',
      'events=events.jsonl',
      '--until-end',
      '--data',
      'my data',
    )
    expect(out).toMatch(/mine: 501 records .* 0 duplicates, 1 dead letter/)
    expect(out).toMatch(/rows\s+│\s+500/)
    expect(out).toContain("millrace dead-letters list --data 'my data'")
  })

  test.each([
    [
      'standard input',
      async () => {
        const child = here.start('run', 'mine.ts', '--input', 'events=-', '--until-end', '--json')
        child.stdin!.end(eventLines(0, EVENTS))
        return child.ended
      },
    ],
    [
      'an archive',
      () => {
        here.write('events.jsonl.gz', gzipSync(eventLines(0, EVENTS)) as never)
        return here.run('run', 'mine.ts', '--input', 'events=events.jsonl.gz', '--until-end', '--json')
      },
    ],
    [
      'CSV, whose fields are texts',
      () => {
        here.write(
          'mine.ts',
          pipelineText().replace('id: z.number(), at: z.number()', 'id: z.coerce.number(), at: z.coerce.number()'),
        )
        here.write('events.csv', `id,at\n${ALL.map((id) => `${id},${1_700_000_000_000 + id}`).join('\n')}\n`)
        return here.run('run', 'mine.ts', '--input', 'events=events.csv', '--until-end', '--json')
      },
    ],
  ])('reads %s', async (_, run) => {
    const { code, err } = await run()
    expect(err + code).toBe('0')
    expect(here.rows()).toEqual(ALL)
  })

  test('follows a file as it grows, is drained by one signal, and the next start goes on', async () => {
    const child = here.start('run', 'mine.ts', '--input', 'events=events.jsonl')
    await until(() => existsSync(here.path('rows-0.jsonl')) && here.rows().length === EVENTS)
    appendFileSync(here.path('events.jsonl'), eventLines(EVENTS, EVENTS + 100))
    await until(() => here.rows().length === EVENTS + 100)
    child.kill('SIGTERM')
    const { code, err } = await child.ended
    expect(code).toBe(0)
    expect(err).toContain('draining')
    appendFileSync(here.path('events.jsonl'), eventLines(EVENTS + 100, EVENTS + 150))
    expect((await here.run('run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end', '--json')).code).toBe(0)
    expect(here.rows()).toEqual(Array.from({ length: EVENTS + 150 }, (_, id) => id))
  })

  test('a second signal ends it at once, with the code of the signal, and nothing is lost', async () => {
    // a drain waits for this call
    here.write(
      'mine.ts',
      pipelineText({
        operators:
          'mapAsync(async (e) => { if (e.id === 499) await new Promise((resolve) => setTimeout(resolve, 5_000)); return e })',
      }).replace('dedup, map,', 'dedup, map, mapAsync,'),
    )
    const child = here.start('run', 'mine.ts', '--input', 'events=events.jsonl')
    await until(() => existsSync(here.path('.millrace/state.db')))
    await sleep(700)
    child.kill('SIGINT')
    await sleep(200)
    child.kill('SIGINT')
    expect((await child.ended).code).toBe(130)
    here.write('mine.ts', pipelineText({ operators: 'map((e) => e)' }))
    expect((await here.run('run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })

  test('serves metrics that say what the summary says, and its health', async () => {
    const child = here.start('run', 'mine.ts', '--input', 'events=events.jsonl', '--metrics', '0')
    let log = ''
    child.stderr!.on('data', (data) => {
      log += data
    })
    await until(() => /http:\/\/[\d.:]+\/metrics/.test(log))
    const [url] = /http:\/\/[\d.:]+\/metrics/.exec(log)!
    const metrics = async () => (await fetch(url)).text()
    await until(async () => /millrace_rows_delivered_total\{[^}]*\} 500/.test(await metrics()))
    expect(await metrics()).toMatch(/millrace_records_read_total\{pipeline="mine"\} 500/)
    for (const line of [
      'millrace_source_records_read_total{pipeline="mine",source="events"} 500',
      'millrace_source_lag{pipeline="mine",source="events",unit="bytes"} 0',
      'millrace_delivery_attempts_total{pipeline="mine",sink="rows",outcome="applied"}',
      'millrace_delivery_attempts_total{pipeline="mine",sink="rows",outcome="unknown"} 0',
      'millrace_staged_batches{pipeline="mine",sink="rows"} 0',
      'millrace_staged_age_seconds{pipeline="mine",sink="rows"} 0',
      'millrace_dead_letters_total{pipeline="mine"} 0',
      'millrace_freshness_seconds{pipeline="mine",sink="rows",quantile="0.99"}',
    ])
      await until(async () => (await metrics()).includes(line))
    const health = await fetch(url.replace('/metrics', '/health'))
    expect([health.status, await health.json()]).toEqual([200, { state: 'running', problems: [] }])
    expect((await fetch(url.replace('/metrics', '/nowhere'))).status).toBe(404)
    child.kill('SIGTERM')
    expect((await child.ended).code).toBe(0)
  })
})

describe('while a pipeline runs', () => {
  test('its state, dead letters and warehouse can be looked at', async () => {
    here.write(
      'mine.ts',
      pipelineText({
        outputs:
          "rows: kept.to(clickhouse({ table: 'rows' })), sums: kept.pipe(scan({ name: 'sums', seed: 0, step: (sum, e) => sum + e.id, ttl: '1d' })).to(file({ path: 'sums.jsonl' }))",
      }).replace('console as lines, file', 'clickhouse, console as lines, file'),
    )
    here.write('events.jsonl', `${eventLines(0, EVENTS)}no event\n`)
    const child = here.start('run', 'mine.ts', '--input', 'events=events.jsonl')
    const sql = (query: string, ...more: string[]) => here.run('sql', query, ...more)
    await until(async () => (await sql('SELECT count() AS n FROM rows', '--json')).out.trim() === '{"n":500}')
    expect((await sql('SELECT id, at FROM rows ORDER BY id LIMIT 2')).out).toMatch(/│ id │[\s\S]*│ {2}1 │[\s\S]*2 rows/)
    expect((await sql('SELECT nothing FROM rows')).err).toMatch(
      /error BAD_OPTION: the warehouse does not take the query: .*nothing/i,
    )
    expect((await here.run('dead-letters', 'list')).out).toMatch(/1 of 1 dead letter/)
    expect((await here.run('dead-letters', 'list', '--where', 'dedup')).out).toMatch(/no dead letters/)
    expect((await here.run('state', 'list')).out).toMatch(/sums\/states.*│ table +│ +10 │/)
    const { out } = await here.run('state', 'get', 'sums', '3', '--json')
    expect(JSON.parse(out)).toMatchObject({
      key: '3',
      value: ALL.filter((id) => id % 10 === 3).reduce((a, b) => a + b),
    })
    expect(JSON.parse((await here.run('state', 'size', '--json')).out).slots).toHaveLength(2)
    child.kill('SIGTERM')
    expect((await child.ended).code).toBe(0)
    expect((await sql('SELECT count() AS n FROM rows', '--json')).out.trim()).toBe('{"n":500}')
    expect(statSync(here.path('.millrace')).isDirectory()).toBe(true)
  }, 60_000)
})
