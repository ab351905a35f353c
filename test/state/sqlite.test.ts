import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createJournal } from '../../core/journal.ts'
import { systemRuntime } from '../../core/runtime.ts'
import type { Store } from '../../core/store.ts'
import { createTable } from '../../core/table.ts'
import { inspect } from '../../state/inspect.ts'
import { rowSum } from '../../state/rows.ts'
import { sqliteStore } from '../../state/sqlite.ts'
import { batch, blob, committed, storeSuite, textOf } from '../support/store-suite.ts'

const WRITER = fileURLToPath(new URL('../support/state-writer.ts', import.meta.url))
const TASK = 'carts/main/0'

let folder: string
let path: string
let stores: Store[] = []
let children: ChildProcess[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-state-'))
  path = join(folder, 'data', 'state.db')
})

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  await Promise.all(stores.map((store) => store.close()))
  stores = []
  children = []
  rmSync(folder, { recursive: true, force: true })
})

async function open(options: { path?: string; acceptOlder?: boolean } = {}): Promise<Store> {
  const store = await sqliteStore({ path, runtime: systemRuntime, ...options })
  stores.push(store)
  return store
}

/** The files of a store as a kill at this moment would leave them, in a folder of their own. */
function image(from: string): string {
  const to = join(mkdtempSync(join(folder, 'image-')), 'state.db')
  for (const part of ['.witness', '', '-wal']) {
    if (existsSync(`${from}${part}`)) copyFileSync(`${from}${part}`, `${to}${part}`)
  }
  return to
}

async function committedEpochs(store: Store, epochs: number): Promise<void> {
  const { fence, epoch } = await store.open(TASK)
  for (let next = epoch + 1; next <= epoch + epochs; next += 1) {
    committed(
      await store.commit({
        task: TASK,
        fence,
        epoch: next,
        facts: String(next),
        blobs: [blob(`${next}`)],
        staged: [batch(`b${next}`)],
      }),
    )
  }
}

function write(
  data: string,
  args: string[] = [],
  through: string[] = [],
): { child: ChildProcess; said: () => Map<string, string> } {
  const [command, ...rest] = [...through, process.execPath, WRITER, data, ...args]
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  let text = ''
  child.stdout!.setEncoding('utf8').on('data', (some: string) => {
    text += some
  })
  /** The last whole line of each task. */
  const said = () =>
    new Map(
      text
        .slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .filter(Boolean)
        .map((line) => line.split(' ') as [string, string]),
    )
  return { child, said }
}

storeSuite('the SQLite store', async () => {
  const home = mkdtempSync(join(tmpdir(), 'millrace-suite-'))
  let at = join(home, '0', 'state.db')
  let lives = 0
  let last: Store | undefined
  return {
    async open() {
      last = await sqliteStore({ path: at, runtime: systemRuntime })
      return last
    },
    async crash() {
      lives += 1
      const next = join(home, String(lives), 'state.db')
      mkdirSync(dirname(next))
      for (const part of ['.witness', '', '-wal']) copyFileSync(`${at}${part}`, `${next}${part}`)
      await last!.close()
      rmSync(dirname(at), { recursive: true })
      at = next
    },
    async deadLetters() {
      const view = inspect(at)
      try {
        return view.deadLetters.list()
      } finally {
        view.close()
      }
    },
    remove: async () => rmSync(home, { recursive: true, force: true }),
  }
})

describe('sqliteStore', () => {
  it('says what is wrong with its path', async () => {
    await expect(sqliteStore({ path: '', runtime: systemRuntime })).rejects.toMatchObject({
      code: 'BAD_OPTION',
      message: expect.stringContaining("path must name the state file, such as '.millrace/state.db', got ''"),
    })
  })

  it('puts changes that wait into one transaction', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    const before = commits()
    await Promise.all(Array.from({ length: 500 }, (_, index) => store.commit({ task: TASK, fence, epoch: index + 1 })))
    expect(commits() - before).toBeLessThan(50)
  })

  it('lets nobody else in, names who is there, and is free again the moment that one is killed', async () => {
    const { child, said } = write(path)
    await expect.poll(() => said().size, { timeout: 20_000 }).toBe(2)
    await expect(open()).rejects.toMatchObject({
      code: 'DATA_DIR_IN_USE',
      message: expect.stringContaining(`process ${child.pid}`),
    })
    child.kill('SIGKILL')
    await once(child, 'exit')
    await open()
    await expect(open()).rejects.toMatchObject({
      code: 'DATA_DIR_IN_USE',
      message: expect.stringContaining(`process ${process.pid}`),
    })
  })

  it('keeps all that it answered for, over 50 kills in the middle of commits', { timeout: 180_000 }, async () => {
    const answered = new Map<string, number>()
    for (let round = 0; round < 50; round += 1) {
      const { child, said } = write(path, ['2', round % 5 === 0 ? '1500000' : '2000'])
      await expect.poll(() => said().size, { timeout: 20_000, interval: 5 }).toBe(2)
      await new Promise((resolve) => setTimeout(resolve, (round * 37) % 90))
      child.kill('SIGKILL')
      await once(child, 'close')
      for (const [task, epoch] of said()) answered.set(task, Number(epoch))

      const store = await open()
      for (const [task, epoch] of answered) {
        const opened = await store.open(task)
        expect(opened.epoch).toBeGreaterThanOrEqual(epoch)
        expect(opened.epoch).toBeLessThanOrEqual(epoch + 1)
        expect(opened.facts ?? '0').toBe(String(opened.epoch))
        const epochs = Array.from({ length: opened.epoch }, (_, index) => index + 1)
        expect(opened.blobs.map(({ bytes }) => textOf(bytes)).join('')).toBe(epochs.map((one) => `${one},`).join(''))
        expect(opened.batches.map(({ name }) => name)).toEqual(epochs.slice(-3).map((one) => `b${one}`))
        for (const { name, size, stagedAt } of opened.batches) {
          expect(Buffer.from(await store.body(task, name)).equals(Buffer.alloc(size, stagedAt % 256))).toBe(true)
        }
      }
      await store.close()
    }
    expect(Math.min(...answered.values())).toBeGreaterThan(100)
  })

  it('takes room that was freed again, and keeps its log bounded', { timeout: 60_000 }, async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    const body = new Uint8Array(2_000_000).fill(1)
    let size = 0
    for (let epoch = 1; epoch <= 200; epoch += 1) {
      const { blobs } = committed(
        await store.commit({
          task: TASK,
          fence,
          epoch,
          staged: [batch(`b${epoch}`, { body })],
          blobs: [{ ...blob(''), bytes: body }],
          ...(epoch > 1 ? { lanes: [{ sink: 'emails', remove: [`b${epoch - 1}`] }] } : {}),
        }),
      )
      committed(
        await store.commit({ task: TASK, fence, compactions: [{ slot: 'dedup/seen', format: 'f', replaces: blobs }] }),
      )
      if (epoch === 50) size = statSync(path).size
    }
    expect(statSync(`${path}-wal`).size).toBeLessThan(200_000_000)
    await store.close()
    expect(statSync(path).size).toBeLessThan(Math.max(size * 1.5, 30_000_000))
  })

  it('stores merged bytes beside, so that the commit that installs them is small', async () => {
    const store = await open()
    const { fence } = await store.open(TASK)
    const table = createTable<string>({
      ttl: 1,
      ...{ clock: { watermark: 0 }, journal: createJournal(), secret: store.secret },
    })
    const replaces: number[] = []
    for (let epoch = 1; epoch <= 3; epoch += 1) {
      table.set(`${epoch}`, 'long'.repeat(500_000), epoch)
      const blobs = [{ slot: 'scan/carts', format: table.format, bytes: table.delta()! }]
      replaces.push(committed(await store.commit({ task: TASK, fence, epoch, blobs })).blobs[0]!)
      table.sealed()
    }
    const { format } = table
    const bytes = (await store.merge(TASK, { slot: 'scan/carts', format, blobs: replaces, oldest: true, horizon: 0 }))!
    expect(bytes.length).toBeGreaterThan(5_000_000)
    const before = statSync(`${path}-wal`).size
    committed(await store.commit({ task: TASK, fence, compactions: [{ slot: 'scan/carts', format, replaces, bytes }] }))
    expect(statSync(`${path}-wal`).size - before).toBeLessThan(1_000_000)
  })

  function commits(): number {
    const view = inspect(path)
    try {
      return view.store().commits
    } finally {
      view.close()
    }
  }
})

describe('the witness of a store', () => {
  it('notices an older copy that was put back, says what it means, and gives way when it is told to', async () => {
    const first = await open()
    await committedEpochs(first, 3)
    const old = image(path)
    await committedEpochs(first, 2)
    await first.close()
    rmSync(`${path}-wal`, { force: true })
    copyFileSync(old, path)
    copyFileSync(`${old}-wal`, `${path}-wal`)
    await expect(open()).rejects.toMatchObject({
      code: 'STATE_BEHIND',
      message: expect.stringMatching(/older than its witness.*Put the newest copy back.*--accept-older-state/s),
    })
    const accepted = await open({ acceptOlder: true })
    expect((await accepted.open(TASK)).epoch).toBe(3)
    await accepted.close()
    expect((await (await open()).open(TASK)).epoch).toBe(3)
  })

  it('notices a log that went missing after a kill', async () => {
    const store = await open()
    await committedEpochs(store, 3)
    const killed = image(path)
    rmSync(`${killed}-wal`)
    await expect(open({ path: killed })).rejects.toMatchObject({ code: 'STATE_BEHIND' })
  })

  it('notices a state file that is gone, empty or of another store', async () => {
    const store = await open()
    await committedEpochs(store, 1)
    await store.close()
    const strange = await open({ path: join(folder, 'other', 'state.db') })
    await committedEpochs(strange, 9)
    await strange.close()
    const good = readFileSync(path)

    copyFileSync(join(folder, 'other', 'state.db'), path)
    await expect(open()).rejects.toMatchObject({
      code: 'STATE_BEHIND',
      message: expect.stringContaining('another store'),
    })
    writeFileSync(path, '')
    await expect(open()).rejects.toMatchObject({
      code: 'STATE_BEHIND',
      message: expect.stringContaining('no store in it'),
    })
    rmSync(path)
    await expect(open()).rejects.toMatchObject({ code: 'STATE_BEHIND' })
    writeFileSync(path, good)
    expect((await (await open()).open(TASK)).epoch).toBe(1)
  })

  it('blocks nobody when it is gone or torn itself, and still testifies with one half', async () => {
    const store = await open()
    await committedEpochs(store, 3)
    const old = image(path)
    await committedEpochs(store, 3)
    const whole = readFileSync(`${path}.witness`)
    for (const half of [0, 512]) {
      const killed = image(path)
      const torn = Buffer.from(whole)
      torn.fill(0, half, half + 512)
      writeFileSync(`${killed}.witness`, torn)
      expect((await (await open({ path: killed })).open(TASK)).epoch).toBe(6)
      writeFileSync(`${old}.witness`, torn)
      await expect(open({ path: old })).rejects.toMatchObject({ code: 'STATE_BEHIND' })
    }
    for (const harm of [
      (file: string) => rmSync(file),
      (file: string) => writeFileSync(file, 'x'),
      (file: string) => writeFileSync(file, ''),
    ]) {
      const killed = image(path)
      harm(`${killed}.witness`)
      expect((await (await open({ path: killed })).open(TASK)).epoch).toBe(6)
    }
  })
})

describe('a state file that cannot be used', () => {
  it('is refused when a newer version wrote it, with both versions named', async () => {
    await (await open()).close()
    const db = new DatabaseSync(path)
    const { value } = db.prepare('SELECT value FROM meta WHERE id = 1').get() as { value: string }
    const newer = JSON.stringify({ ...JSON.parse(value), format: 7 })
    db.prepare('UPDATE meta SET value = ?, crc = ? WHERE id = 1').run(newer, rowSum('meta', 1, newer))
    db.exec('DROP TABLE batches')
    db.close()
    const refused = { code: 'STATE_TOO_NEW', message: expect.stringMatching(/version 7.*up to 1/) }
    await expect(open()).rejects.toMatchObject(refused)
    expect(() => inspect(path)).toThrow(expect.objectContaining(refused))
  })

  it('is refused when it is no state file', async () => {
    mkdirSync(dirname(path))
    writeFileSync(path, 'not a database, but long enough to be looked at'.repeat(100))
    await expect(open()).rejects.toMatchObject({ code: 'STATE_DAMAGED' })
    rmSync(path)
    const db = new DatabaseSync(path)
    db.exec('CREATE TABLE mine (x)')
    db.close()
    await expect(open()).rejects.toMatchObject({
      code: 'STATE_DAMAGED',
      message: expect.stringContaining('not one of Millrace'),
    })
  })

  it('says which folder cannot be written', async () => {
    writeFileSync(join(folder, 'data'), 'a file')
    await expect(open()).rejects.toMatchObject({
      code: 'DATA_DIR_UNWRITABLE',
      message: expect.stringContaining(join(folder, 'data')),
    })
  })
})

const canMount = (() => {
  const probe = mkdtempSync(join(tmpdir(), 'millrace-mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', probe], { stdio: 'ignore' })
    execFileSync('umount', [probe])
    return true
  } catch {
    console.warn('skipped: a full and a read-only disk need the right to mount a file system')
    return false
  } finally {
    rmSync(probe, { recursive: true, force: true })
  }
})()

describe.skipIf(!canMount)('a disk of its own', () => {
  let disk: string

  beforeEach(() => {
    disk = mkdtempSync(join(tmpdir(), 'millrace-disk-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk])
    path = join(disk, 'state.db')
  })

  afterEach(async () => {
    await end()
    execFileSync('umount', [disk])
    rmSync(disk, { recursive: true })
  })

  async function end(): Promise<void> {
    await Promise.all(stores.map((store) => store.close()))
    stores = []
  }

  it('refuses a commit for which there is no room, loses nothing, and goes on when there is', async () => {
    const filler = join(disk, 'filler')
    writeFileSync(filler, new Uint8Array(52_000_000))
    let store = await open()
    let { fence } = await store.open(TASK)
    let full = 0
    let epoch = 0
    const commit = async (bytes: number) => {
      const result = await store.commit({
        task: TASK,
        fence,
        epoch: epoch + 1,
        facts: String(epoch + 1),
        blobs: [{ ...blob(''), bytes: new Uint8Array(bytes).fill(epoch + 1) }],
      })
      if (result.kind === 'committed') epoch += 1
      else if (result.kind === 'failed') expect(result.error).toMatchObject({ code: 'DISK_FULL', retriable: true })
      else throw new Error(result.kind)
      return result.kind === 'committed'
    }
    while (await commit(900_000)) full = epoch
    expect(full).toBeGreaterThan(3)
    const [big, small] = await Promise.all([
      store.commit({ task: TASK, fence, blobs: [{ ...blob('', 'big'), bytes: new Uint8Array(5_000_000) }] }),
      store.commit({ task: TASK, fence, lanes: [] }),
    ])
    expect(big).toMatchObject({ kind: 'failed', error: { code: 'DISK_FULL' } })
    expect(['committed', 'failed']).toContain(small.kind)
    rmSync(filler)
    expect(await commit(900_000)).toBe(true)
    await end()
    store = await open()
    const opened = await store.open(TASK)
    fence = opened.fence
    expect(opened.epoch).toBe(full + 1)
    expect(opened.blobs.map(({ bytes }) => [bytes.length, bytes[0]])).toEqual(
      Array.from({ length: full + 1 }, (_, index) => [900_000, index + 1]),
    )
    await end()
  })

  it('says that it is read-only, and still can be looked at', async () => {
    const store = await open()
    await committedEpochs(store, 2)
    await end()
    execFileSync('mount', ['-o', 'remount,ro', disk])
    await expect(open()).rejects.toMatchObject({ code: 'DATA_DIR_UNWRITABLE' })
    const view = inspect(path)
    expect(view.tasks()).toMatchObject([{ task: TASK, epoch: 2 }])
    view.close()
  })
})

const canLimit = existsSync('/usr/bin/prlimit')
if (!canLimit) console.warn('skipped: a write error needs prlimit')

describe.skipIf(!canLimit)('a disk that fails', () => {
  it('leaves the outcome unknown, builds nothing upon it, and shows the truth at the next start', async () => {
    const { child, said } = write(path, ['1', '300000'], ['prlimit', '--fsize=9000000'])
    await once(child, 'close')
    expect(said().get('t/0')).toBe('unknown')
    const store = await open()
    const { epoch, facts, batches } = await store.open('t/0')
    expect(epoch).toBeGreaterThan(5)
    expect(facts).toBe(String(epoch))
    expect(await store.body('t/0', batches.at(-1)!.name)).toHaveLength(300_000)
  })
})
