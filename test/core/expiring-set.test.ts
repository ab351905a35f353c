import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createExpiringSet, EXPIRING_SET_FORMAT } from '../../core/expiring-set.ts'
import { keep } from '../support/kept-state.ts'

const WITHIN = 20
const make = () => keep((deps) => createExpiringSet({ within: WITHIN, ...deps }))

describe('an expiring set', () => {
  test('tells the first of a key from its repeats while it is alive, at the millisecond', () => {
    const { clock, state } = make()
    expect(state.add('a', 100)).toBe('added')
    clock.watermark = 119
    expect(state.add('a', 110)).toBe('present')
    clock.watermark = 120
    expect(state.add('a', 110)).toBe('added')
    expect(state.add('b', 100)).toBe('expired')
    expect(state.add('b', 101)).toBe('added')
    clock.watermark = Number.POSITIVE_INFINITY
    expect(state.add('c', 1_000)).toBe('expired')
  })

  test('says the same as a map through epochs, undone records, failed epochs, restarts and compactions', () => {
    const action = fc.oneof(
      { weight: 10, arbitrary: fc.record({ do: fc.constant('add' as const), key: fc.nat(30), time: fc.nat(120) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), by: fc.nat(25) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('savepoint' as const) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('undo' as const) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('commit' as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          do: fc.constantFrom('fail' as const, 'restart' as const, 'end' as const, 'compact' as const),
        }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('merge' as const), from: fc.nat(8), count: fc.nat(8) }) },
    )
    fc.assert(
      fc.property(fc.array(action, { maxLength: 150, size: 'max' }), (actions) => {
        const kept = make()
        const { clock } = kept
        let model = new Map<number, number>()
        let stored = model
        let saved: { mark: number; model: Map<number, number> } | undefined
        for (const step of actions) {
          if (step.do === 'add') {
            const known = model.get(step.key)
            const alive = known !== undefined && known + WITHIN > clock.watermark
            const expected = step.time + WITHIN <= clock.watermark ? 'expired' : alive ? 'present' : 'added'
            expect(kept.state.add(`k${step.key}`, step.time)).toBe(expected)
            if (expected === 'added') model = new Map(model).set(step.key, step.time)
          } else if (step.do === 'advance') clock.watermark = Math.max(clock.watermark, 0) + step.by
          else if (step.do === 'savepoint') saved = { mark: kept.journal.mark(), model }
          else if (step.do === 'undo') {
            if (saved) {
              kept.journal.undoTo(saved.mark)
              model = saved.model
            }
            saved = undefined
          } else if (step.do === 'merge') kept.merge(step.from, step.from + step.count)
          else if (step.do === 'compact') kept.compact(1_000)
          else {
            saved = undefined
            if (step.do === 'end') {
              // The input ends; the end is taken back by --reopen.
              const before = clock.watermark
              clock.watermark = Number.POSITIVE_INFINITY
              kept.commit()
              kept.merge(0, kept.blobs.length, Number.POSITIVE_INFINITY)
              clock.watermark = before
              kept.commit()
              stored = model
            } else if (step.do === 'commit') {
              kept.commit()
              stored = model
            } else {
              kept[step.do]()
              model = stored
            }
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  test('holds a hundred thousand keys, undoes half of them, and loads the rest', () => {
    const kept = make()
    for (let i = 0; i < 50_000; i++) expect(kept.state.add(`key-${i}`, i)).toBe('added')
    const mark = kept.journal.mark()
    for (let i = 50_000; i < 100_000; i++) expect(kept.state.add(`key-${i}`, i)).toBe('added')
    expect(kept.state.size).toBe(100_000)
    kept.journal.undoTo(mark)
    expect(kept.state.size).toBe(50_000)
    for (let i = 0; i < 100_000; i += 7) expect(kept.state.add(`key-${i}`, 1)).toBe(i < 50_000 ? 'present' : 'added')
    kept.journal.undoTo(mark)
    kept.commit()
    kept.restart()
    expect(kept.state.size).toBe(50_000)
    for (let i = 0; i < 100_000; i += 7) expect(kept.state.add(`key-${i}`, i)).toBe(i < 50_000 ? 'present' : 'added')
  })

  test('frees what is dead, in memory and in the store, and takes no more for a day than for an hour', () => {
    const kept = make()
    let most = 0
    for (let epoch = 0; epoch < 400; epoch++) {
      for (let i = 0; i < 500; i++) kept.state.add(`key-${epoch}-${i}`, epoch)
      kept.clock.watermark = epoch
      kept.commit()
      kept.compact()
      if (epoch === 100) most = kept.state.memory + kept.stored
    }
    expect(kept.state.memory + kept.stored).toBeLessThan(most * 1.5)
    expect(kept.state.size).toBeLessThan(500 * WITHIN * 4)
  })

  test('keeps a key that is dead only in an epoch that may still fail', () => {
    const kept = make()
    for (let i = 0; i < 10_000; i++) kept.state.add(`key-${i}`, 100)
    kept.clock.watermark = 110
    kept.commit()
    kept.clock.watermark = 1_000
    for (let i = 0; i < 10_000; i++) kept.state.add(`other-${i}`, 1_000)
    kept.fail()
    for (let i = 0; i < 10_000; i++) expect(kept.state.add(`key-${i}`, 110)).toBe('present')
  })

  test('is whole after each commit: what a blob says is 24 bytes a key', () => {
    const kept = make()
    expect(kept.state.delta()).toBeUndefined()
    kept.state.add('a', 1)
    kept.state.add('b', 1)
    kept.state.add('a', 2)
    expect(kept.state.delta()!.length).toBe(32 + 2 * 24)
    kept.commit()
    expect(kept.state.delta()).toBeUndefined()
  })

  test.each([
    ['expiring-set/2', 'STATE_TOO_NEW'],
    ['table/1', 'TOPOLOGY_CHANGED'],
    ['nonsense', 'STATE_DAMAGED'],
  ])('refuses a blob of the format %s', (format, code) => {
    const { state } = make()
    expect(() => state.load([{ id: 1, format, bytes: new Uint8Array(32) }])).toThrow(expect.objectContaining({ code }))
  })

  test('refuses a blob that was cut', () => {
    const kept = make()
    kept.state.add('a', 1)
    kept.state.add('b', 1)
    const bytes = kept.state.delta()!
    for (let length = 0; length < bytes.length; length++) {
      const damaged = { id: 1, format: EXPIRING_SET_FORMAT, bytes: bytes.slice(0, length) }
      expect(() => make().state.load([damaged])).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
    }
  })
})
