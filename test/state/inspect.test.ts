import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import type { DeadLetter, Store } from '../../core/store.ts'
import { inspect, type StateInspector } from '../../state/inspect.ts'
import { sqliteStore } from '../../state/sqlite.ts'
import { batch, blob, committed, textOf } from '../support/store-suite.ts'

const WRITER = fileURLToPath(new URL('../support/state-writer.ts', import.meta.url))

let folder: string
let path: string
let store: Store | undefined
let view: StateInspector | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-inspect-'))
  path = join(folder, 'state.db')
})

afterEach(async () => {
  view?.close()
  await store?.close()
  view = undefined
  store = undefined
  rmSync(folder, { recursive: true, force: true })
})

async function filled(): Promise<void> {
  store = await sqliteStore({ path, runtime: systemRuntime })
  for (const task of ['b/0', 'a/0']) {
    const { fence } = await store.open(task)
    const letter = (position: number, where: string): DeadLetter => ({
      source: 's',
      partition: 0,
      position,
      at: 0,
      where,
      code: 'UNDECODABLE',
      reason: 'r',
      bytes: new Uint8Array([position]),
    })
    committed(
      await store.commit({
        task,
        fence,
        epoch: 1,
        facts: `{"of":"${task}"}`,
        blobs: [blob('one'), blob('three', 'scan/carts'), blob('two!')],
        staged: [batch('b1'), batch('r1', { sink: 'rows' }), { ...batch('b2'), stagedAt: 5_000 }],
        deadLetters: [letter(1, 'decode'), letter(2, 'scan'), letter(3, 'decode')],
        lanes: [{ sink: 'rows', receipt: 'r0' }],
      }),
    )
  }
}

describe('inspect', () => {
  it('says that there is no state file', () => {
    expect(() => inspect(path)).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND', message: expect.stringContaining(path) }),
    )
  })

  it('lists tasks, lanes, batches and slots beside the worker that writes them', async () => {
    await filled()
    view = inspect(path)
    expect(view.store()).toMatchObject({ id: store!.id, format: 1, commits: 4, behind: false })
    expect(view.tasks()).toEqual([
      { task: 'a/0', fence: 1, epoch: 1, deaths: 0, facts: '{"of":"a/0"}', receipts: { rows: 'r0' } },
      { task: 'b/0', fence: 1, epoch: 1, deaths: 0, facts: '{"of":"b/0"}', receipts: { rows: 'r0' } },
    ])
    expect(view.lanes('a/0')).toEqual([
      { task: 'a/0', sink: 'emails', batches: 2, rows: 4, bytes: 20, stagedAt: 1_000 },
      { task: 'a/0', sink: 'rows', batches: 1, rows: 2, bytes: 10, stagedAt: 1_000 },
    ])
    expect(view.staged().map(({ task, name, attempts }) => [task, name, attempts])).toEqual(
      ['a/0', 'b/0'].flatMap((task) => ['b1', 'r1', 'b2'].map((name) => [task, name, 0])),
    )
    expect(view.slots('b/0')).toEqual([
      { task: 'b/0', slot: 'dedup/seen', format: 'expiring-set.1', blobs: 2, bytes: 7 },
      { task: 'b/0', slot: 'scan/carts', format: 'expiring-set.1', blobs: 1, bytes: 5 },
    ])
    expect(view.blobs('b/0', 'dedup/seen').map(({ bytes }) => textOf(bytes))).toEqual(['one', 'two!'])
    expect(view.blobs('b/0', 'nobody/knows')).toEqual([])
    expect(view.verify()).toBe(2 * (12 + 30 + 3))
  })

  it('finds dead letters by task, place and number', async () => {
    await filled()
    view = inspect(path)
    const ids = (options?: Parameters<StateInspector['deadLetters']['list']>[0]) =>
      view!.deadLetters.list(options).map(({ id }) => id)
    expect(ids()).toEqual([1, 2, 3, 4, 5, 6])
    expect(ids({ where: 'decode' })).toEqual([1, 3, 4, 6])
    expect(ids({ task: 'a/0', where: 'decode' })).toEqual([4, 6])
    expect(ids({ where: 'decode', after: 1, limit: 2 })).toEqual([3, 4])
    expect([
      view.deadLetters.count(),
      view.deadLetters.count({ task: 'b/0' }),
      view.deadLetters.count({ where: 'scan' }),
    ]).toEqual([6, 3, 2])
    expect(view.deadLetters.get(5)).toMatchObject({
      id: 5,
      task: 'a/0',
      where: 'scan',
      position: 2,
      bytes: new Uint8Array([2]),
    })
    expect(view.deadLetters.get(7)).toBeUndefined()
  })

  it('sees whole commits only, of a process that commits without a pause, and what it left when it was killed', {
    timeout: 30_000,
  }, async () => {
    const child = spawn(process.execPath, [WRITER, path, '2'], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      await once(child.stdout!, 'data')
      child.stdout!.resume()
      view = inspect(path)
      let commits = 0
      for (let round = 0; commits < 200 && round < 20_000; round += 1) {
        for (const { task, epoch, facts } of view.tasks()) expect([task, facts ?? '0']).toEqual([task, String(epoch)])
        for (const { batches } of view.lanes()) expect(batches).toBeLessThanOrEqual(3)
        view.verify()
        // The writer stops when nobody takes what it prints.
        await systemRuntime.yield()
        expect(view.store().commits).toBeGreaterThanOrEqual(commits)
        commits = view.store().commits
      }
      expect(commits).toBeGreaterThanOrEqual(200)
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    const { bytes, logBytes } = view!.store()
    view!.close()
    view = inspect(path)
    view.verify()
    expect(view.store()).toMatchObject({ bytes, logBytes, behind: false })
  })
})
