import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { MillraceError } from '../../core/errors.ts'
import { inspect } from '../../state/inspect.ts'
import type { PostedChange } from '../../state/messages.ts'
import { PIECE_BYTES } from '../../state/rows.ts'
import { openStateFile, type StateFile } from '../../state/state-file.ts'
import { batch, blob, bytesOf, committed } from '../support/store-suite.ts'

const TASKS = ['a/0', 'a/1', 'b/0']
const PARTS = ['.witness', '', '-wal']

let home: string
let opened: StateFile[] = []

beforeEach(() => {
  opened = []
})

afterEach(() => {
  for (const file of opened) file.close()
})

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'millrace-file-'))
})

afterAll(() => rmSync(home, { recursive: true, force: true }))

function fresh(): string {
  return join(mkdtempSync(join(home, 'store-')), 'state.db')
}

function open(path: string): StateFile {
  const file = openStateFile({
    path,
    acceptOlder: false,
    id: 'store-1',
    secret: new Uint8Array(32).fill(1),
    checkpoint: () => undefined,
  })
  opened.push(file)
  return file
}

function close(file: StateFile): void {
  opened = opened.filter((one) => one !== file)
  file.close()
}

function copy(from: string): string {
  const to = fresh()
  for (const part of PARTS) if (existsSync(`${from}${part}`)) copyFileSync(`${from}${part}`, `${to}${part}`)
  return to
}

function commit(file: StateFile, change: PostedChange) {
  return committed(file.commit([change])[0]!)
}

/** Something of everything, for some epochs of every task. */
function fill(file: StateFile, epochs: number): void {
  for (const task of TASKS) {
    const { fence, epoch: last } = file.open(task)
    for (let epoch = last + 1; epoch <= last + epochs; epoch += 1) {
      const noise = Uint8Array.from({ length: 700 * epoch }, (_, index) => index * epoch)
      const lane = epoch > 4 ? { lanes: [{ sink: 'emails', remove: [`b${epoch - 4}`], receipt: `b${epoch - 4}` }] } : {}
      commit(file, {
        task,
        fence,
        epoch,
        facts: JSON.stringify({ epoch, text: 'facts '.repeat(epoch) }),
        blobs: [blob(`${epoch}`.repeat(50)), { ...blob('', 'scan/carts'), bytes: noise }],
        staged: [batch(`b${epoch}`, { body: noise })],
        deadLetters: [
          {
            source: 's',
            partition: 0,
            position: epoch,
            at: 0,
            where: 'decode',
            code: 'UNDECODABLE',
            reason: 'r',
            bytes: noise,
          },
        ],
        ...lane,
      })
    }
  }
}

/** Everything that a store says, read in every way there is: from outside, and by opening. */
function everything(path: string): string {
  const file = open(path)
  try {
    const view = inspect(path)
    try {
      view.verify()
      const bodies = view.staged().map(({ task, name }) => [task, name, crc32(file.body(task, name))])
      const letters = view.deadLetters
        .list({ limit: 1_000 })
        .map((letter) => ({ ...letter, bytes: crc32(letter.bytes) }))
      const slots = view.slots()
      const blobs = slots.flatMap(({ task, slot }) =>
        view.blobs(task, slot).map((one) => ({ ...one, bytes: crc32(one.bytes) })),
      )
      return JSON.stringify([view.store().commits, view.tasks(), view.staged(), bodies, letters, slots, blobs])
    } finally {
      view.close()
    }
  } finally {
    close(file)
  }
}

describe('a damaged state file', () => {
  let whole: string
  let said: string
  /** The commits of the file that are in the log only. */
  beforeAll(() => {
    const path = fresh()
    const before = open(path)
    fill(before, 12)
    close(before)
    const file = open(path)
    fill(file, 6)
    whole = copy(path)
    said = everything(copy(whole))
    close(file)
  })

  /** What becomes of the harm: found, with which code, or without effect. Anything else fails the test. */
  function outcome(harm: (path: string) => void): string {
    const path = copy(whole)
    harm(path)
    try {
      expect(everything(path)).toBe(said)
      return 'none'
    } catch (thrown) {
      if (!(thrown instanceof MillraceError)) throw thrown
      if (thrown.code === 'STATE_DAMAGED')
        expect(thrown.message).toMatch(/state\.db is damaged: .+ put back the newest good copy/s)
      return thrown.code
    } finally {
      rmSync(join(path, '..'), { recursive: true })
    }
  }

  function flip(file: string, position: number, bit: number): void {
    const bytes = readFileSync(file)
    bytes[position]! ^= 1 << bit
    writeFileSync(file, bytes)
  }

  for (const [part, found] of [
    ['', ['STATE_DAMAGED']],
    ['-wal', ['STATE_BEHIND', 'STATE_DAMAGED']],
  ] as const) {
    it(`shows or shrugs off a flipped bit at each of 200 places of the ${part === '' ? 'file' : 'log'}, and never lies`, {
      timeout: 120_000,
    }, () => {
      const { size } = statSync(`${whole}${part}`)
      const counts: Record<string, number> = {}
      for (let index = 0; index < 200; index += 1) {
        // The head of the file and of each page are where structure is: a third of the flips go there.
        const spot = Math.floor(((index + 0.37) * size) / 200)
        const position = index % 3 === 0 ? Math.min(size - 1, spot - (spot % 8_192) + (index % 40)) : spot
        const result = outcome((path) => flip(`${path}${part}`, position, index % 8))
        counts[result] = (counts[result] ?? 0) + 1
      }
      for (const code of Object.keys(counts)) expect(['none', ...found]).toContain(code)
      // Pages that are free, or newer in the log, may say what they like.
      expect(200 - (counts.none ?? 0)).toBeGreaterThan(part === '' ? 50 : 180)
    })
  }

  it('is noticed when it was cut off anywhere', { timeout: 60_000 }, () => {
    const { size } = statSync(whole)
    for (let pages = 0; pages < size / 8_192; pages += Math.ceil(size / 8_192 / 20)) {
      expect(outcome((path) => truncateSync(path, pages * 8_192))).toMatch(/STATE_DAMAGED|STATE_BEHIND|none/)
    }
    expect(outcome((path) => truncateSync(path, size - 100))).toMatch(/STATE_DAMAGED|none/)
    expect(outcome((path) => truncateSync(path, 8_192))).toBe('STATE_DAMAGED')
  })

  it('is noticed when its log was cut off anywhere', { timeout: 60_000 }, () => {
    const { size } = statSync(`${whole}-wal`)
    for (let index = 0; index < 20; index += 1) {
      expect(outcome((path) => truncateSync(`${path}-wal`, Math.floor((index * size) / 20)))).toBe('STATE_BEHIND')
    }
  })

  for (const table of ['blobs', 'batches', 'dead_letters', 'tasks', 'pieces']) {
    it(`is noticed when a row of ${table} is gone, or says something else, though the database is sound`, () => {
      const lost = (path: string) =>
        change(path, `DELETE FROM ${table} WHERE ${key(table)} = (SELECT min(${key(table)}) FROM ${table})`)
      expect(outcome(lost)).toBe('STATE_DAMAGED')
      const column = table === 'pieces' ? 'bytes' : 'value'
      const other = (path: string) =>
        change(
          path,
          `UPDATE ${table} SET ${column} = (SELECT ${column} FROM ${table} ORDER BY ${key(table)} DESC LIMIT 1)`,
        )
      expect(outcome(other)).toBe('STATE_DAMAGED')
    })
  }

  it('is noticed when the disk has kept the older version of any of its pages, after an orderly stop', {
    timeout: 60_000,
  }, () => {
    const path = fresh()
    const before = open(path)
    fill(before, 12)
    close(before)
    const older = readFileSync(path)
    const file = open(path)
    fill(file, 3)
    close(file)
    const newer = readFileSync(path)
    const truth = everything(copy(path))
    const results: string[] = []
    for (let at = 0; at < older.length; at += 8_192) {
      const page = older.subarray(at, at + 8_192)
      if (page.equals(newer.subarray(at, at + 8_192))) continue
      const mixed = copy(path)
      const bytes = Buffer.from(newer)
      page.copy(bytes, at)
      writeFileSync(mixed, bytes)
      let result = 'none'
      try {
        expect(everything(mixed)).toBe(truth)
      } catch (thrown) {
        if (!(thrown instanceof MillraceError)) throw thrown
        result = thrown.code
      }
      results.push(result)
    }
    expect(results.filter((code) => code === 'STATE_DAMAGED' || code === 'STATE_BEHIND').length).toBeGreaterThan(4)
    for (const code of results) expect(['STATE_DAMAGED', 'STATE_BEHIND', 'none']).toContain(code)
  })

  it('is noticed when its list of free pages is wrong: what is read is well, what is written next would not be', () => {
    const listed = (path: string) => {
      const db = new DatabaseSync(path)
      db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
      db.close()
      const bytes = readFileSync(path)
      bytes.writeUInt32BE(bytes.readUInt32BE(36) + 1, 36)
      writeFileSync(path, bytes)
    }
    expect(outcome(listed)).toBe('STATE_DAMAGED')
  })

  it('is not judged by the order in which it is read, when all is well', () => {
    expect(outcome(() => undefined)).toBe('none')
  })

  function key(table: string): string {
    return table === 'blobs' || table === 'batches' ? '(task * 1000000 + id)' : 'id'
  }

  function change(path: string, sql: string): void {
    const db = new DatabaseSync(path)
    db.exec(sql)
    db.close()
  }
})

describe('merged blobs that are stored beside', () => {
  const pieces = 3
  const bytes = Uint8Array.from({ length: PIECE_BYTES * 2 + 5 }, (_, index) => index * 3)
  const content = (first: number) => ({ first, pieces, size: bytes.length, sum: crc32(bytes) })

  function start(): { path: string; file: StateFile; fence: number; ids: readonly number[] } {
    const path = fresh()
    const file = open(path)
    const { fence } = file.open('t')
    const { blobs: ids } = commit(file, { task: 't', fence, epoch: 1, blobs: [blob('1'), blob('2')] })
    return { path, file, fence, ids }
  }

  function install(file: StateFile, count = pieces): number {
    let first = 0
    for (let index = 0; index < count; index += 1) {
      const piece = bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES)
      first = file.install({ kind: 'piece', task: 't', slot: 'dedup/seen', pieces, index, first, bytes: piece })
    }
    return first
  }

  function swept(file: StateFile): void {
    while (file.sweep());
  }

  const compaction = (fence: number, replaces: readonly number[], first: number): PostedChange => ({
    task: 't',
    fence,
    compactions: [{ slot: 'dedup/seen', format: 'merged', replaces, installed: content(first) }],
  })

  it('take their place with one small commit', () => {
    const { path, file, fence, ids } = start()
    const first = install(file)
    commit(file, { task: 't', fence, facts: 'meanwhile' })
    swept(file)
    const { compacted } = commit(file, compaction(fence, ids, first))
    swept(file)
    const view = inspect(path)
    expect(view.blobs('t', 'dedup/seen')).toEqual([{ id: compacted[0], slot: 'dedup/seen', format: 'merged', bytes }])
    view.close()
  })

  it('are nothing before that, and are swept away after a crash', () => {
    const { path, file } = start()
    install(file, 2)
    const killed = copy(path)
    expect(count(killed, 'pieces')).toBe(4)
    const next = open(killed)
    swept(next)
    close(next)
    expect([count(killed, 'pieces'), count(killed, 'loose')]).toEqual([2, 0])
    expect(everythingOf(killed)).toEqual(['1', '2'])
  })

  it('are given up for a later merge of the slot, and cannot be installed then', () => {
    const { file, fence, ids } = start()
    const stale = install(file)
    const newer = install(file)
    swept(file)
    expect(file.commit([compaction(fence, ids, stale)])[0]).toMatchObject({
      kind: 'failed',
      error: { message: expect.stringContaining('given up for a later merge') },
    })
    commit(file, compaction(fence, ids, newer))
  })

  it('are given up when the task is opened again', () => {
    const { path, file, ids } = start()
    const first = install(file)
    const { fence } = file.open('t')
    swept(file)
    expect(file.commit([compaction(fence, ids, first)])[0]!.kind).toBe('failed')
    expect(count(path, 'pieces')).toBe(2)
  })

  it('leave what they replace to be swept in bounded steps, which a crash may cut', () => {
    const path = fresh()
    const file = open(path)
    const { fence } = file.open('t')
    const big = { ...blob(''), bytes: new Uint8Array(20 * PIECE_BYTES).fill(1) }
    const { blobs } = commit(file, { task: 't', fence, epoch: 1, blobs: [big] })
    commit(file, {
      task: 't',
      fence,
      compactions: [{ slot: big.slot, format: 'f', replaces: blobs, bytes: bytesOf('small') }],
    })
    expect(count(path, 'pieces')).toBe(20)
    expect(file.sweep()).toBe(true)
    const killed = copy(path)
    expect(count(killed, 'pieces')).toBe(16)
    const next = open(killed)
    swept(next)
    expect(count(killed, 'pieces')).toBe(1)
    close(next)
    expect(everythingOf(killed)).toEqual(['small'])
  })

  function count(path: string, table: string): number {
    const db = new DatabaseSync(path, { readOnly: true })
    const { n } = db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }
    db.close()
    return n
  }

  function everythingOf(path: string): string[] {
    const view = inspect(path)
    view.verify()
    const texts = view.blobs('t', 'dedup/seen').map((one) => new TextDecoder().decode(one.bytes))
    view.close()
    return texts
  }
})
