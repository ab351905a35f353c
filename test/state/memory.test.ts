import { describe, expect, it } from 'vitest'
import type { Store } from '../../core/store.ts'
import { type Fate, MemoryDisk, memoryStore } from '../../state/memory.ts'
import { batch, storeSuite } from '../support/store-suite.ts'

storeSuite('the memory store', async () => {
  const disk = new MemoryDisk()
  return {
    open: async () => memoryStore({ disk }),
    crash: async () => disk.crash(),
    deadLetters: async () => disk.deadLetters,
    remove: async () => undefined,
  }
})

describe('a memory disk', () => {
  const unsettled = Symbol('unsettled')
  const settledOrNot = (promise: Promise<unknown>) =>
    Promise.race([promise, new Promise((resolve) => setImmediate(() => resolve(unsettled)))])

  async function opened(flush: () => Fate | Promise<Fate>): Promise<{ disk: MemoryDisk; store: Store; fence: number }> {
    const disk = new MemoryDisk()
    const store = memoryStore({ disk, flush })
    const { fence } = await store.open('t')
    return { disk, store, fence }
  }

  it('loses what was not flushed when it crashes, and its callers never hear of it', async () => {
    let flushed!: (fate: Fate) => void
    const { disk, store, fence } = await opened(() => new Promise((resolve) => (flushed = resolve)))
    const asked = store.commit({ task: 't', fence, epoch: 1, facts: 'volatile' })
    await settledOrNot(asked)
    disk.crash()
    flushed('committed')
    for (const call of [
      asked,
      store.open('t'),
      store.commit({ task: 't', fence }),
      store.body('t', 'b'),
      store.tasks(),
      store.close(),
    ]) {
      expect(await settledOrNot(call)).toBe(unsettled)
    }
    expect(await memoryStore({ disk }).open('t')).toMatchObject({ facts: undefined, epoch: 0, deaths: 1 })
  })

  it('gives what waits during a flush to the next flush as one group', async () => {
    const groups: number[] = []
    const disk = new MemoryDisk()
    const flush = async (changes: readonly unknown[]): Promise<Fate> => {
      groups.push(changes.length)
      await new Promise((resolve) => setImmediate(resolve))
      return 'committed'
    }
    const store = memoryStore({ disk, flush })
    const { fence } = await store.open('t')
    const first = store.commit({ task: 't', fence })
    await Promise.resolve()
    await Promise.resolve()
    await Promise.all([first, ...Array.from({ length: 5 }, () => store.commit({ task: 't', fence }))])
    expect(groups).toEqual([1, 5])
  })

  const fates: [Fate, string, string | undefined][] = [
    ['failed', 'failed', undefined],
    ['unknown, lost', 'unknown', undefined],
    ['unknown, applied', 'unknown', 'new'],
  ]
  for (const [fate, kind, facts] of fates) {
    it(`answers ${kind} when the flush is '${fate}'`, async () => {
      const { disk, store, fence } = await opened(() => fate)
      const result = await store.commit({ task: 't', fence, epoch: 1, facts: 'new', staged: [batch('b')] })
      expect(result.kind).toBe(kind)
      expect(disk.task('t')!.facts).toBe(facts)
    })
  }

  it('lets nothing be built on a commit of unknown outcome before it is opened again', async () => {
    let fate: Fate = 'unknown, applied'
    const { disk, store, fence } = await opened(() => fate)
    await store.commit({ task: 't', fence, epoch: 1, facts: 'new' })
    fate = 'committed'
    expect((await store.commit({ task: 't', fence, epoch: 2 })).kind).toBe('unknown')
    await expect(store.open('t')).rejects.toMatchObject({ code: 'STATE_FAILED' })
    expect(disk.task('t')!.epoch).toBe(1)
    disk.crash()
    expect(await memoryStore({ disk }).open('t')).toMatchObject({ epoch: 1, facts: 'new' })
  })
})
