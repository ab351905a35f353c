import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createJournal } from '../../core/journal.ts'
import type { Change, CommitResult, DeadLetter, OpenedTask, StagedBatch, StateBlob, Store } from '../../core/store.ts'
import { createTable } from '../../core/table.ts'
import { memoryStore } from '../../state/memory.ts'

/** A place that a store is kept in. */
export interface StorePlace {
  /** Opens the store that is kept there; a second one only after the first was closed or crashed. */
  open(): Promise<Store>
  /** Ends the store that is open as a kill would: only what was answered for has to be there afterwards. */
  crash(): Promise<void>
  /** The dead letters as they are kept, oldest first. */
  deadLetters(): Promise<readonly (DeadLetter & { readonly id: number; readonly task: string })[]>
  remove(): Promise<void>
}

const TASK = 'carts/main/0'

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes)
}

export function batch(
  name: string,
  { sink = 'emails', body = bytesOf(`body of ${name}`) }: { sink?: string; body?: Uint8Array } = {},
): StagedBatch {
  return { name, sink, head: 'columns', rows: 2, body, stagedAt: 1_000, oldest: 10, newest: 20, arrived: 900 }
}

export function blob(text: string, slot = 'dedup/seen'): StateBlob {
  return { slot, format: 'expiring-set.1', bytes: bytesOf(text) }
}

/** The ids of a commit that must have succeeded. */
export function committed(result: CommitResult): Extract<CommitResult, { kind: 'committed' }> {
  if (result.kind !== 'committed')
    throw new Error(`not committed: ${JSON.stringify(result)} ${result.kind === 'failed' ? result.error.message : ''}`)
  return result
}

function tableOf(store: Store) {
  return createTable<string>({
    ttl: 1_000_000,
    clock: { watermark: 0 },
    journal: createJournal(),
    secret: store.secret,
  })
}

/** What a store must do, whatever it is made of. */
export function storeSuite(name: string, make: () => Promise<StorePlace>): void {
  describe(`${name} as a store`, () => {
    let place: StorePlace
    let store: Store

    beforeEach(async () => {
      place = await make()
      store = await place.open()
    })

    afterEach(async () => {
      await store.close().catch(() => undefined)
      await place.remove()
    })

    async function reopen(): Promise<OpenedTask> {
      await store.close()
      store = await place.open()
      return store.open(TASK)
    }

    async function crashed(): Promise<OpenedTask> {
      await place.crash()
      store = await place.open()
      return store.open(TASK)
    }

    const names = (opened: OpenedTask, sink = 'emails') =>
      opened.batches.filter((one) => one.sink === sink).map((one) => one.name)
    const texts = (opened: OpenedTask, slot = 'dedup/seen') =>
      opened.blobs.filter((one) => one.slot === slot).map((one) => textOf(one.bytes))

    it('gives a task that it does not know as an empty one', async () => {
      const opened = await store.open(TASK)
      expect(opened).toMatchObject({ epoch: 0, facts: undefined, blobs: [], batches: [], receipts: {}, deaths: 0 })
      expect(await store.tasks()).toEqual([TASK])
    })

    it('keeps its id and its secret of 32 bytes over a restart', async () => {
      const { id, secret } = store
      await reopen()
      expect([store.id, [...store.secret]]).toEqual([id, [...secret]])
      expect(secret).toHaveLength(32)
    })

    it('gives back all that an epoch committed, after a crash as after a restart', async () => {
      const { fence } = await store.open(TASK)
      const change: Change = {
        task: TASK,
        fence,
        epoch: 1,
        facts: '{"position":7,"text":"ä\\u0000\\ud83d\\ude00"}',
        blobs: [blob('one'), blob('two', 'scan/carts')],
        staged: [batch('b1'), { ...batch('b2', { sink: 'rows' }), newest: Number.POSITIVE_INFINITY, oldest: -1.5 }],
        lanes: [{ sink: 'rows', receipt: 'offset 12' }],
      }
      const { blobs } = committed(await store.commit(change))
      for (const opened of [await crashed(), await reopen()]) {
        expect(opened).toMatchObject({ epoch: 1, facts: change.facts, receipts: { rows: 'offset 12' } })
        expect(opened.blobs.map(({ id, slot, format }) => ({ id, slot, format }))).toEqual([
          { id: blobs[0], slot: 'dedup/seen', format: 'expiring-set.1' },
          { id: blobs[1], slot: 'scan/carts', format: 'expiring-set.1' },
        ])
        expect([texts(opened), texts(opened, 'scan/carts')]).toEqual([['one'], ['two']])
        const { body, ...kept } = change.staged![1]!
        expect(opened.batches[1]).toEqual({ ...kept, size: body.length, attempts: 0 })
      }
      expect(textOf(await store.body(TASK, 'b1'))).toBe('body of b1')
    })

    it('refuses a change under a fence that was raised since, and one of a task that was never opened', async () => {
      const first = await store.open(TASK)
      const second = await store.open(TASK)
      expect(second.fence).toBeGreaterThan(first.fence)
      expect((await store.commit({ task: TASK, fence: first.fence, epoch: 1, facts: 'stale' })).kind).toBe('fenced')
      expect((await store.commit({ task: 'other/main/0', fence: 1, epoch: 1 })).kind).toBe('fenced')
      committed(await store.commit({ task: TASK, fence: second.fence, epoch: 1, facts: 'good' }))
      expect((await crashed()).facts).toBe('good')
    })

    it('raises the fence above those of lives that have crashed', async () => {
      const { fence } = await store.open(TASK)
      expect((await crashed()).fence).toBeGreaterThan(fence)
      expect((await store.commit({ task: TASK, fence, epoch: 1 })).kind).toBe('fenced')
    })

    it('shuts out a change that is asked for before the next opening is answered', async () => {
      const { fence } = await store.open(TASK)
      const [second, late] = await Promise.all([
        store.open(TASK),
        store.commit({ task: TASK, fence, epoch: 1, facts: 'late' }),
      ])
      expect(late.kind === 'fenced' || second.facts === 'late').toBe(true)
      expect(late.kind === 'committed' ? second.epoch : 0).toBe(second.epoch)
    })

    it('applies changes that are asked for at once in their order', async () => {
      const { fence } = await store.open(TASK)
      const asked = Array.from({ length: 50 }, (_, index) =>
        store.commit({
          task: TASK,
          fence,
          epoch: index + 1,
          facts: String(index),
          blobs: [blob(String(index))],
          staged: [batch(`b${index}`)],
        }),
      )
      const ids = (await Promise.all(asked)).map((result) => committed(result).blobs[0]!)
      expect(ids).toEqual([...ids].sort((a, b) => a - b))
      const opened = await crashed()
      expect([opened.epoch, opened.facts]).toEqual([50, '49'])
      expect(texts(opened)).toEqual(Array.from({ length: 50 }, (_, index) => String(index)))
      expect(names(opened)).toEqual(Array.from({ length: 50 }, (_, index) => `b${index}`))
    })

    it('keeps tasks apart, and lists them in the order of their names', async () => {
      const tasks = ['z/0', 'a/1', 'a/0']
      const fences = await Promise.all(tasks.map((task) => store.open(task)))
      await Promise.all(
        tasks.map((task, index) =>
          store.commit({ task, fence: fences[index]!.fence, epoch: 1, facts: task, staged: [batch('same')] }),
        ),
      )
      expect(await store.tasks()).toEqual(['a/0', 'a/1', 'z/0'])
      for (const task of tasks)
        expect(await store.open(task)).toMatchObject({ facts: task, epoch: 1, batches: [{ name: 'same' }] })
    })

    const wrong: Record<string, Partial<Change>> = {
      'an epoch that does not follow the last': { epoch: 5 },
      'a batch that is staged already': { staged: [batch('b1')] },
      'the removal of a batch that is not there': { lanes: [{ sink: 'emails', remove: ['b9'] }] },
      'the removal of a batch of another sink': { lanes: [{ sink: 'rows', remove: ['b1'] }] },
      'an attempt on a batch that is not there': { lanes: [{ sink: 'emails', attempts: ['b9'] }] },
      'a group with a batch that was attempted': {
        lanes: [{ sink: 'emails', group: { name: 'g', members: ['b1', 'b2'] } }],
      },
      'a compaction of blobs that are not there': {
        compactions: [{ slot: 'dedup/seen', format: 'f', replaces: [987_654] }],
      },
    }
    for (const [what, part] of Object.entries(wrong)) {
      it(`refuses ${what}, and applies nothing of that change or too much of its group`, async () => {
        const { fence } = await store.open(TASK)
        const start = {
          task: TASK,
          fence,
          epoch: 1,
          facts: 'good',
          blobs: [blob('one')],
          staged: [batch('b1'), batch('b2')],
        }
        const bad = { task: TASK, fence, facts: 'bad', blobs: [blob('bad')], deadLetters: [], ...part }
        const results = await Promise.all([
          store.commit(start),
          store.commit({ task: TASK, fence, lanes: [{ sink: 'emails', attempts: ['b2'] }] }),
          store.commit(bad),
          store.commit({ task: TASK, fence, blobs: [blob('after')] }),
        ])
        expect(results.map((result) => result.kind)).toEqual(['committed', 'committed', 'failed', 'committed'])
        const opened = await crashed()
        expect(opened).toMatchObject({ epoch: 1, facts: 'good' })
        expect([texts(opened), names(opened)]).toEqual([
          ['one', 'after'],
          ['b1', 'b2'],
        ])
      })
    }

    it('puts the remainder of a batch in its place at the head of the lane', async () => {
      const { fence } = await store.open(TASK)
      committed(
        await store.commit({
          task: TASK,
          fence,
          epoch: 1,
          staged: [batch('b1'), batch('other', { sink: 'rows' }), batch('b2')],
        }),
      )
      committed(await store.commit({ task: TASK, fence, epoch: 2, staged: [batch('b3')] }))
      const rest = batch('b1/rest')
      committed(
        await store.commit({
          task: TASK,
          fence,
          lanes: [{ sink: 'emails', remove: ['b1'], replace: { of: 'b1', by: rest }, receipt: 'r1' }],
        }),
      )
      committed(
        await store.commit({
          task: TASK,
          fence,
          lanes: [{ sink: 'emails', replace: { of: 'b2', by: batch('b2/rest') } }],
        }),
      )
      const opened = await crashed()
      expect(names(opened)).toEqual(['b1/rest', 'b2/rest', 'b3'])
      expect(names(opened, 'rows')).toEqual(['other'])
      expect(opened.receipts).toEqual({ emails: 'r1' })
      expect(textOf(await store.body(TASK, 'b1/rest'))).toBe('body of b1/rest')
      await expect(store.body(TASK, 'b1')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    it('takes a group apart, and leaves those of other sinks and names alone', async () => {
      const { fence } = await store.open(TASK)
      const staged = [
        batch('b1'),
        batch('b2'),
        batch('b3'),
        batch('b4'),
        batch('o1', { sink: 'rows' }),
        batch('o2', { sink: 'rows' }),
      ]
      committed(await store.commit({ task: TASK, fence, epoch: 1, staged }))
      const group = (sink: string, name: string, ...members: string[]) => ({ sink, group: { name, members } })
      committed(
        await store.commit({
          task: TASK,
          fence,
          lanes: [
            group('emails', 'g1', 'b1', 'b2'),
            group('emails', 'g2', 'b3', 'b4'),
            group('rows', 'g1', 'o1', 'o2'),
          ],
        }),
      )
      committed(await store.commit({ task: TASK, fence, lanes: [{ sink: 'emails', ungroup: 'g1', attempts: ['b1'] }] }))
      const opened = await crashed()
      expect(opened.batches.map(({ name: one, group: of, attempts }) => [one, of, attempts])).toEqual([
        ['b1', undefined, 1],
        ['b2', undefined, 0],
        ['b3', 'g2', 0],
        ['b4', 'g2', 0],
        ['o1', 'g1', 0],
        ['o2', 'g1', 0],
      ])
    })

    it('keeps groups and attempts over a crash, and the last receipt of each sink', async () => {
      const { fence } = await store.open(TASK)
      committed(
        await store.commit({ task: TASK, fence, epoch: 1, staged: ['b1', 'b2', 'b3'].map((one) => batch(one)) }),
      )
      committed(
        await store.commit({
          task: TASK,
          fence,
          lanes: [{ sink: 'emails', group: { name: 'g1', members: ['b1', 'b2'] }, attempts: ['b1', 'b2'] }],
        }),
      )
      committed(await store.commit({ task: TASK, fence, lanes: [{ sink: 'emails', attempts: ['b1'] }] }))
      const opened = await crashed()
      expect(opened.batches.map(({ name: one, group, attempts }) => ({ one, group, attempts }))).toEqual([
        { one: 'b1', group: 'g1', attempts: 2 },
        { one: 'b2', group: 'g1', attempts: 1 },
        { one: 'b3', group: undefined, attempts: 0 },
      ])
      committed(
        await store.commit({
          task: TASK,
          fence: opened.fence,
          lanes: [{ sink: 'emails', remove: ['b1', 'b2'], receipt: 'r1' }],
        }),
      )
      committed(
        await store.commit({
          task: TASK,
          fence: opened.fence,
          lanes: [{ sink: 'emails', remove: ['b3'], receipt: 'r2' }],
        }),
      )
      expect(await crashed()).toMatchObject({ batches: [], receipts: { emails: 'r2' } })
    })

    it('counts the openings that died before an epoch was committed, and not those that were closed', async () => {
      expect((await store.open(TASK)).deaths).toBe(0)
      expect((await crashed()).deaths).toBe(1)
      const third = await crashed()
      expect(third.deaths).toBe(2)
      committed(await store.commit({ task: TASK, fence: third.fence, facts: 'between epochs' }))
      expect((await reopen()).deaths).toBe(2)
      const { fence, deaths } = await crashed()
      expect(deaths).toBe(3)
      committed(await store.commit({ task: TASK, fence, epoch: 1 }))
      expect((await crashed()).deaths).toBe(0)
    })

    it('puts a compaction in the place of the blobs that it replaces', async () => {
      const { fence } = await store.open(TASK)
      const texts4 = ['1', '2', '3', '4']
      const { blobs } = committed(
        await store.commit({
          task: TASK,
          fence,
          epoch: 1,
          blobs: [...texts4.map((text) => blob(text)), blob('x', 'scan/carts')],
        }),
      )
      const { compacted } = committed(
        await store.commit({
          task: TASK,
          fence,
          epoch: 2,
          blobs: [blob('5')],
          compactions: [
            { slot: 'dedup/seen', format: 'expiring-set.1', replaces: blobs.slice(1, 3), bytes: bytesOf('23') },
          ],
        }),
      )
      let opened = await crashed()
      expect(texts(opened)).toEqual(['1', '23', '4', '5'])
      expect(opened.blobs.filter((one) => one.slot === 'dedup/seen')[1]!.id).toBe(compacted[0])
      committed(
        await store.commit({
          task: TASK,
          fence: opened.fence,
          compactions: [
            { slot: 'dedup/seen', format: 'expiring-set.1', replaces: [blobs[0]!, compacted[0]!] },
            { slot: 'scan/carts', format: 'table.2', replaces: [blobs[4]!], bytes: bytesOf('y') },
          ],
        }),
      )
      opened = await crashed()
      expect([texts(opened), texts(opened, 'scan/carts')]).toEqual([['4', '5'], ['y']])
      expect(opened.blobs.find((one) => one.slot === 'scan/carts')!.format).toBe('table.2')
    })

    it('refuses a compaction of blobs that do not follow one another', async () => {
      const { fence } = await store.open(TASK)
      const { blobs } = committed(
        await store.commit({ task: TASK, fence, epoch: 1, blobs: ['1', '2', '3'].map((text) => blob(text)) }),
      )
      const replaces = [blobs[0]!, blobs[2]!]
      const result = await store.commit({
        task: TASK,
        fence,
        compactions: [{ slot: 'dedup/seen', format: 'f', replaces, bytes: bytesOf('13') }],
      })
      expect(result.kind).toBe('failed')
      expect(texts(await crashed())).toEqual(['1', '2', '3'])
    })

    for (const [size, length] of [
      ['small', 10],
      ['many pieces', 300_000],
    ] as const) {
      it(`merges blobs into one of ${size} that says the same, and changes nothing until it is installed`, async () => {
        const { fence } = await store.open(TASK)
        const table = tableOf(store)
        const ids: number[] = []
        for (let epoch = 1; epoch <= 12; epoch += 1) {
          table.set(`key ${epoch % 10}`, `${epoch}`.repeat(length), epoch)
          const { format } = table
          const { blobs } = committed(
            await store.commit({
              task: TASK,
              fence,
              epoch,
              blobs: [{ slot: 'scan/carts', format, bytes: table.delta()! }],
            }),
          )
          table.sealed()
          ids.push(blobs[0]!)
        }
        const { format } = table
        const replaces = ids.slice(0, 11)
        const merged = await store.merge(TASK, {
          slot: 'scan/carts',
          format,
          blobs: replaces,
          oldest: true,
          horizon: 0,
        })
        expect((await crashed()).blobs.map(({ id }) => id)).toEqual(ids)

        const { fence: next } = await store.open(TASK)
        const again = await store.merge(TASK, { slot: 'scan/carts', format, blobs: replaces, oldest: true, horizon: 0 })
        expect(Buffer.compare(again!, merged!)).toBe(0)
        committed(
          await store.commit({
            task: TASK,
            fence: next,
            compactions: [{ slot: 'scan/carts', format, replaces, bytes: again! }],
          }),
        )
        const { blobs } = await crashed()
        expect(blobs).toHaveLength(2)
        const loaded = tableOf(store)
        loaded.load(blobs)
        for (let key = 0; key < 10; key += 1)
          expect(loaded.get(`key ${key}`)).toBe(`${key < 3 && key > 0 ? key + 10 : key || 10}`.repeat(length))
      })
    }

    it('says which blob it was asked to merge and does not have', async () => {
      await store.open(TASK)
      const request = { slot: 'scan/carts', format: 'table/1', blobs: [12_345], oldest: true, horizon: 0 }
      await expect(store.merge(TASK, request)).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: expect.stringContaining('12345'),
      })
    })

    it('drops and renames slots whole', async () => {
      const { fence } = await store.open(TASK)
      committed(
        await store.commit({
          task: TASK,
          fence,
          epoch: 1,
          blobs: [blob('1', 'a'), blob('2', 'b'), blob('3', 'a'), blob('4', 'c')],
        }),
      )
      const taken = await store.commit({ task: TASK, fence, renameSlots: { b: 'c' } })
      expect(taken.kind).toBe('failed')
      committed(
        await store.commit({
          task: TASK,
          fence,
          epoch: 2,
          dropSlots: ['a'],
          renameSlots: { b: 'a' },
          blobs: [blob('5', 'a')],
        }),
      )
      const opened = await crashed()
      expect([texts(opened, 'a'), texts(opened, 'b'), texts(opened, 'c')]).toEqual([['2', '5'], [], ['4']])
    })

    it('numbers the dead letters from 1 and keeps them as they were', async () => {
      const { fence } = await store.open(TASK)
      const letter: DeadLetter = {
        source: 'events',
        partition: 3,
        position: 7,
        at: 5,
        where: 'decode',
        code: 'UNDECODABLE',
        reason: 'r',
        bytes: bytesOf('{'),
      }
      const full = {
        ...letter,
        key: 'k\ud800',
        time: Number.NEGATIVE_INFINITY,
        bytes: new Uint8Array(1_000_000).fill(9),
      }
      committed(await store.commit({ task: TASK, fence, epoch: 1, deadLetters: [letter] }))
      committed(await store.commit({ task: TASK, fence, deadLetters: [full] }))
      await crashed()
      const kept = await place.deadLetters()
      expect(kept).toHaveLength(2)
      expect(kept[0]).toEqual({ ...letter, id: 1, task: TASK })
      expect({ ...kept[1], bytes: undefined }).toEqual({ ...full, id: 2, task: TASK, bytes: undefined })
      expect(Buffer.compare(kept[1]!.bytes, full.bytes)).toBe(0)
    })

    it('keeps bodies and blobs of many pieces, and empty ones', async () => {
      const { fence } = await store.open(TASK)
      const big = Uint8Array.from({ length: 3_500_001 }, (_, index) => index * 7)
      const exact = new Uint8Array(1_048_576).fill(5)
      const staged = [batch('big', { body: big }), batch('none', { body: new Uint8Array(0) })]
      const blobs = [big, exact, new Uint8Array(0)].map((bytes) => ({ ...blob(''), bytes }))
      committed(await store.commit({ task: TASK, fence, epoch: 1, staged, blobs }))
      const opened = await crashed()
      for (const [index, { bytes }] of blobs.entries())
        expect(Buffer.compare(opened.blobs[index]!.bytes, bytes)).toBe(0)
      expect(Buffer.compare(await store.body(TASK, 'big'), big)).toBe(0)
      expect(await store.body(TASK, 'none')).toHaveLength(0)
    })

    it('takes bytes as they are when the commit is asked for, and views of larger buffers', async () => {
      const { fence } = await store.open(TASK)
      const pool = bytesOf('..state..body..')
      const asked = store.commit({
        task: TASK,
        fence,
        epoch: 1,
        blobs: [{ ...blob(''), bytes: pool.subarray(2, 7) }],
        staged: [batch('b', { body: pool.subarray(9, 13) })],
      })
      pool.fill(0)
      committed(await asked)
      expect(texts(await crashed())).toEqual(['state'])
      expect(textOf(await store.body(TASK, 'b'))).toBe('body')
    })

    it('commits nothing any more when it is closed', async () => {
      const { fence } = await store.open(TASK)
      const asked = store.commit({ task: TASK, fence, epoch: 1, facts: 'in time' })
      await store.close()
      await store.close()
      committed(await asked)
      expect((await store.commit({ task: TASK, fence, epoch: 2 })).kind).toBe('failed')
      expect((await reopen()).facts).toBe('in time')
    })

    it('ends up as a store in memory does, whatever is asked of it and wherever it crashes', {
      timeout: 120_000,
    }, async () => {
      const step = fc.oneof(
        {
          weight: 6,
          arbitrary: fc.record({ kind: fc.constant('epoch' as const), blobs: fc.nat(2), staged: fc.nat(3) }),
        },
        {
          weight: 4,
          arbitrary: fc.record({
            kind: fc.constantFrom('deliver' as const, 'replace' as const, 'group' as const),
            at: fc.nat(5),
          }),
        },
        {
          weight: 3,
          arbitrary: fc.record({
            kind: fc.constant('compact' as const),
            at: fc.nat(5),
            count: fc.integer({ min: 1, max: 4 }),
            empty: fc.boolean(),
          }),
        },
        {
          weight: 1,
          arbitrary: fc.record({
            kind: fc.constantFrom('crash' as const, 'close' as const, 'rename' as const, 'wrong' as const),
          }),
        },
      )
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
          const task = `model/${Math.random()}`
          const model = memoryStore()
          let real = await store.open(task)
          let twin = await model.open(task)
          let unique = 0
          /** Asks both, and returns the real one's view of the task by what it would open. */
          const both = async (change: Omit<Change, 'task' | 'fence'>, twinChange = change) => {
            const [result, expected] = await Promise.all([
              store.commit({ task, fence: real.fence, ...change }),
              model.commit({ task, fence: twin.fence, ...twinChange }),
            ])
            expect(result.kind).toBe(expected.kind)
          }
          for (const one of steps) {
            const refresh = async () => {
              real = await store.open(task)
              twin = await model.open(task)
            }
            if (one.kind === 'crash') {
              await place.crash()
              store = await place.open()
            } else if (one.kind === 'close') {
              await store.close()
              store = await place.open()
            }
            await refresh()
            const lane = real.batches.filter(({ sink }) => sink === 'emails').map((stored) => stored.name)
            const at = 'at' in one ? one.at : 0
            if (one.kind === 'epoch') {
              unique += 1
              const blobs = Array.from({ length: one.blobs }, (_, index) =>
                blob(`${unique}.${index}`, index % 2 ? 'a' : 'b'),
              )
              const staged = Array.from({ length: one.staged }, (_, index) =>
                batch(`${unique}.${index}`, { sink: index % 2 ? 'rows' : 'emails' }),
              )
              await both({ epoch: real.epoch + 1, facts: String(unique), blobs, staged })
            } else if (one.kind === 'deliver') {
              await both({ lanes: [{ sink: 'emails', remove: lane.slice(0, at), receipt: `r${at}` }] })
            } else if (one.kind === 'replace' && lane[at]) {
              unique += 1
              await both({ lanes: [{ sink: 'emails', replace: { of: lane[at], by: batch(`rest ${unique}`) } }] })
            } else if (one.kind === 'group') {
              unique += 1
              await both({
                lanes: [
                  {
                    sink: 'emails',
                    group: { name: `g${unique}`, members: lane.slice(at, at + 2) },
                    attempts: lane.slice(0, 1),
                  },
                ],
              })
            } else if (one.kind === 'compact') {
              const ids = (opened: OpenedTask) => opened.blobs.filter(({ slot }) => slot === 'a').map(({ id }) => id)
              unique += 1
              const compaction = (opened: OpenedTask) => ({
                compactions: [
                  {
                    slot: 'a',
                    format: 'merged',
                    replaces: ids(opened).slice(at, at + one.count),
                    ...(one.empty ? {} : { bytes: bytesOf(`m${unique}`) }),
                  },
                ],
              })
              await both(compaction(real), compaction(twin))
            } else if (one.kind === 'rename') {
              await both({ renameSlots: { b: 'c' }, dropSlots: ['c'] })
            } else if (one.kind === 'wrong') {
              await both({ facts: 'wrong', blobs: [blob('wrong')], lanes: [{ sink: 'emails', remove: ['nobody'] }] })
            }
          }
          await store.close()
          store = await place.open()
          real = await store.open(task)
          twin = await model.open(task)
          const said = ({ epoch, facts, receipts, blobs, batches }: OpenedTask) => ({
            epoch,
            facts,
            receipts,
            batches,
            slots: Object.groupBy(
              blobs.map(({ slot, format, bytes }) => ({ slot, format, text: textOf(bytes) })),
              ({ slot }) => slot,
            ),
          })
          expect(said(real)).toEqual(said(twin))
        }),
        { numRuns: 15 },
      )
    })
  })
}
