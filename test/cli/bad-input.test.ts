import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { rowSum } from '../../state/rows.ts'
import { type Ended, eventLines, type Place, pipelineText, place } from '../support/command.ts'

const EVENTS = 500
const ALL = Array.from({ length: EVENTS }, (_, id) => id)

let here: Place
beforeEach(() => {
  here = place()
  here.write('mine.ts', pipelineText())
  here.write('events.jsonl', eventLines(0, EVENTS))
})
afterEach(() => here.remove())

const run = (...more: string[]) =>
  here.run('run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end', '--json', ...more)

/** One clear message with its code, the documented exit code, and no stack. */
function refused({ code, err, out }: Ended, exit: number, errorCode: string, ...says: (string | RegExp)[]): void {
  const lines = err.split('\n').filter((line) => line.includes('error '))
  expect(lines, err + out).toHaveLength(1)
  expect(lines[0]).toContain(`error ${errorCode}: `)
  for (const text of says) expect(lines[0]).toMatch(text)
  expect(err).not.toMatch(/\n\s+at .*:\d+:\d+/)
  expect(code).toBe(exit)
}

async function endsWell(): Promise<void> {
  const { code, err } = await run()
  expect(err + code).toBe('0')
  expect(here.rows()).toEqual(ALL)
}

describe('a command line that is wrong', () => {
  test.each([
    [['run', 'mine.ts', '--untilend'], /unknown option '--untilend'/],
    [['run'], /missing required argument 'file'/],
    [['walk', 'mine.ts'], /unknown command 'walk'/],
    [['run', 'mine.ts', '--log-level', 'loud'], /Allowed choices are debug, info/],
    [['dead-letters', 'list', '--limit', 'many'], /whole number/],
  ])('millrace %j says so, and exits with 2', async (args, says) => {
    const { code, err } = await here.run(...args)
    expect(err).toMatch(says)
    expect(err).not.toMatch(/\n\s+at /)
    expect(code).toBe(2)
  })

  test.each([
    [['--input', 'evnts=events.jsonl'], 'BAD_OPTION', /it reads: events/],
    [['--input', 'events'], 'BAD_OPTION', /NAME=PATH/],
    [['--input', 'events=nowhere.jsonl'], 'NOT_FOUND', /nowhere\.jsonl/],
    [['--input', 'events=.'], 'BAD_OPTION', /folder/],
    [['--metrics', 'ninety'], 'BAD_OPTION', /--metrics must be a port/],
    [['--rename-state', 'dedup'], 'BAD_OPTION', /OLD=NEW/],
    [['--pipeline', 'yours'], 'NOT_FOUND', /it has: mine/],
    [['--require-real'], 'STAND_IN_REFUSED', /kafka/],
  ])('run mine.ts %j', async (args, code, says) => {
    const ended = await here.run('run', 'mine.ts', '--until-end', ...args)
    refused(ended, 2, code, says)
  })
})

describe('a pipeline file that is wrong', () => {
  const wrong: Record<string, readonly [text: string | undefined, code: string, ...says: RegExp[]]> = {
    'is not there': [undefined, 'NOT_FOUND', /there is no pipeline file wrong\.ts/],
    'does not parse': ['export const x = {\n  a: 1,,\n}\n', 'BAD_PIPELINE', /wrong\.ts/],
    'exports nothing': ['export const x = 1\n', 'BAD_PIPELINE', /exports no pipeline/],
    'imports what is not there': [
      "import './nowhere.ts'\n",
      'BAD_PIPELINE',
      /imports '.*nowhere\.ts', which is not there/,
    ],
    'has a wrong duration': [
      pipelineText({ operators: "dedup({ by: (e) => String(e.id), within: '24 hours' as never })" }),
      'BAD_OPTION',
      /wrong\.ts:9: dedup "dedup": within/,
      /24 hours/,
    ],
    'has two operators of one name': [
      pipelineText({
        operators: "dedup({ by: (e) => String(e.id), within: '1d' }), dedup({ by: (e) => String(e.id), within: '2d' })",
      }),
      'BAD_PIPELINE',
      /two .*"dedup"|"dedup".*two/,
      /name/,
    ],
    'throws while it loads': [
      "throw new Error('no configuration')\n",
      'BAD_PIPELINE',
      /wrong\.ts:1 throws while it loads: no configuration/,
    ],
  }
  test.each(Object.entries(wrong))('%s', async (_, [text, code, ...says]) => {
    if (text !== undefined) here.write('wrong.ts', text)
    refused(await here.run('run', 'wrong.ts', '--until-end'), 2, code, ...says)
  })
})

describe('around it', () => {
  test('a port that is taken', async () => {
    const server = createServer()
    const port = await new Promise<number>((resolve) =>
      server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
    )
    try {
      refused(await run('--metrics', String(port)), 2, 'PORT_IN_USE', /another program has this port/)
    } finally {
      server.close()
    }
    await endsWell()
  })

  test('a data directory that another run holds', async () => {
    const first = here.start('run', 'mine.ts', '--input', 'events=events.jsonl')
    try {
      while (!existsSync(here.path('rows-0.jsonl'))) await new Promise((resolve) => setTimeout(resolve, 20))
      refused(await run(), 3, 'DATA_DIR_IN_USE', /in use by process \d+/)
    } finally {
      first.kill('SIGTERM')
    }
    expect((await first.ended).code).toBe(0)
    await endsWell()
  })

  const root = process.getuid?.() === 0 && existsSync('/proc/mounts')

  test.skipIf(!root)(
    'a disk that is full (needs the right to mount)',
    async () => {
      mkdirSync(here.path('small'))
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1200k', 'tmpfs', here.path('small')])
      try {
        here.write('events.jsonl', eventLines(0, 60_000))
        const ended = await run('--data', 'small/data')
        refused(ended, 3, 'DISK_FULL', /room/)
        execFileSync('mount', ['-o', 'remount,size=200m', here.path('small')])
        expect((await run('--data', 'small/data')).code).toBe(0)
        expect(here.rows()).toEqual(Array.from({ length: 60_000 }, (_, id) => id))
      } finally {
        execFileSync('umount', [here.path('small')])
      }
    },
    60_000,
  )

  test.skipIf(!root)('a data directory that cannot be written (needs the right to mount)', async () => {
    mkdirSync(here.path('fixed'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=50m', 'tmpfs', here.path('fixed')])
    try {
      execFileSync('mount', ['-o', 'remount,ro', here.path('fixed')])
      refused(await run('--data', 'fixed/data'), 3, 'DATA_DIR_UNWRITABLE', /read-only|cannot be/)
    } finally {
      execFileSync('umount', [here.path('fixed')])
    }
    await endsWell()
  })
})

describe('a pipeline that changed over old state', () => {
  beforeEach(async () => {
    here.write('events.jsonl', eventLines(0, 100))
    expect((await run()).code).toBe(0)
    here.write('events.jsonl', eventLines(0, EVENTS))
  })

  test('a source that had ended and has grown is read on only when that is said', async () => {
    refused(await run(), 5, 'SOURCE_SEALED', /--reopen/)
    expect((await run('--reopen')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })

  test('an operator with another name', async () => {
    here.write('mine.ts', pipelineText({ operators: "dedup({ name: 'once', by: (e) => String(e.id), within: '1d' })" }))
    refused(await run('--reopen'), 5, 'TOPOLOGY_CHANGED', /"dedup"/, /--rename-state/, /--drop-state/)
    expect((await run('--reopen', '--rename-state', 'dedup=once')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })

  test('an operator that is gone', async () => {
    here.write('mine.ts', pipelineText({ operators: 'map((e) => e)' }))
    refused(await run('--reopen'), 5, 'TOPOLOGY_CHANGED', /"dedup"/)
    expect((await run('--reopen', '--drop-state', 'dedup')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })

  test('another file in the place of the one that was read', async () => {
    here.write('events.jsonl', eventLines(1_000, 1_000 + EVENTS))
    refused(await run('--reopen'), 5, 'SOURCE_CHANGED', /events\.jsonl/)
    here.write('events.jsonl', eventLines(0, 50))
    refused(await run('--reopen'), 5, 'SOURCE_CHANGED', /events\.jsonl/)
    here.write('events.jsonl', eventLines(0, EVENTS))
    expect((await run('--reopen')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })
})

describe('a state file', () => {
  const state = () => here.path('.millrace/state.db')

  test('of a newer version', async () => {
    here.write('events.jsonl', eventLines(0, 100))
    await run()
    const good = readFileSync(state())
    const db = new DatabaseSync(state())
    const { value } = db.prepare('SELECT value FROM meta WHERE id = 1').get() as { value: string }
    const newer = JSON.stringify({ ...JSON.parse(value), format: 7 })
    db.prepare('UPDATE meta SET value = ?, crc = ? WHERE id = 1').run(newer, rowSum('meta', 1, newer))
    db.close()
    here.write('events.jsonl', eventLines(0, EVENTS))
    refused(await run('--reopen'), 4, 'STATE_TOO_NEW', /version 7/)
    writeFileSync(state(), good)
    expect((await run('--reopen')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })

  test('of which an old copy was put back', async () => {
    here.write('events.jsonl', eventLines(0, 100))
    await run()
    cpSync(state(), here.path('old.db'))
    here.write('events.jsonl', eventLines(0, 200))
    expect((await run('--reopen')).code).toBe(0)
    cpSync(state(), here.path('new.db'))
    rmSync(`${state()}-wal`, { force: true })
    rmSync(`${state()}-shm`, { force: true })
    cpSync(here.path('old.db'), state())
    here.write('events.jsonl', eventLines(0, EVENTS))
    refused(await run('--reopen'), 4, 'STATE_BEHIND', /older/, /--accept-older-state/)
    cpSync(here.path('new.db'), state())
    expect((await run('--reopen')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })

  test('with flipped bytes', async () => {
    here.write('events.jsonl', eventLines(0, 300))
    await run()
    const good = readFileSync(state())
    const bad = Buffer.from(good)
    for (let at = 4_096; at < bad.length; at += 512) bad[at + 200]! ^= 0x10
    writeFileSync(state(), bad)
    here.write('events.jsonl', eventLines(0, EVENTS))
    refused(await run('--reopen'), 4, 'STATE_DAMAGED', /checksum|damaged|malformed/i)
    writeFileSync(state(), good)
    expect((await run('--reopen')).code).toBe(0)
    expect(here.rows()).toEqual(ALL)
  })
})

test('too much poison stops the pipeline before it empties into the dead letters, and what was good is there', async () => {
  const poison = Array.from({ length: 400 }, (_, i) => `{"id":"${i}"}\n`).join('')
  here.write('events.jsonl', eventLines(0, 100) + poison + eventLines(100, EVENTS))
  refused(await run(), 7, 'POISONED', /maxPoison/)
  here.write('mine.ts', pipelineText().replace(' })\nexport const used', ' }, { maxPoison: 1 })\nexport const used'))
  const { code, out } = await run()
  expect(code).toBe(0)
  expect(JSON.parse(out)).toMatchObject({ read: 900, deadLetters: 400 })
  expect(here.rows()).toEqual(ALL)
})

test('what an operator throws at is a dead letter that can be listed, shown and taken away', async () => {
  here.write(
    'mine.ts',
    pipelineText({
      operators:
        "tap((e) => { if (e.id === 7) throw new Error('seven') }), dedup({ by: (e) => String(e.id), within: '1d' })",
    }),
  )
  expect((await run()).code).toBe(0)
  expect(here.rows()).toEqual(ALL.filter((id) => id !== 7))
  const list = await here.run('dead-letters', 'list')
  expect(list.out).toMatch(/tap.*seven/)
  const show = await here.run('dead-letters', 'show', '1')
  expect(show.out).toContain('{"id":7,"at":')
  const lines = (await here.run('dead-letters', 'export')).out.trim().split('\n')
  expect(lines.map((line) => JSON.parse(JSON.parse(line).text).id)).toEqual([7])
  refused(await here.run('dead-letters', 'show', '99'), 2, 'NOT_FOUND', /no dead letter 99/)
  refused(await here.run('dead-letters', 'list', '--data', 'elsewhere'), 2, 'NOT_FOUND', /no data directory elsewhere/)
  refused(await here.run('sql', 'SELECT 1'), 2, 'NOT_FOUND', /no warehouse/)
  refused(await here.run('state', 'get', 'cart', 'x'), 2, 'NOT_FOUND', /there is: dedup/)
})
