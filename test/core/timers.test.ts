import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareKeys, createTimers, keyRank, TIMERS_FORMAT } from '../../core/timers.ts'
import { keep } from '../support/kept-state.ts'

const make = () => keep((deps) => createTimers(deps))

/** Keys whose UTF-16 order is not the order of their bytes, that are hard to encode, or that begin alike. */
const KEYS = [
  '',
  'a',
  'aa',
  'b',
  'é',
  'ключ',
  '\ue000',
  '\uffff',
  '😀',
  '😀a',
  '\ud800',
  'x'.repeat(60),
  'я'.repeat(60),
]

const ACTION = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ do: fc.constant('set' as const), key: fc.constantFrom(...KEYS), time: fc.nat(12) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('cancel' as const), key: fc.constantFrom(...KEYS), time: fc.nat(12) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('savepoint' as const, 'undo' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('commit' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('fail' as const, 'restart' as const, 'compact' as const) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('merge' as const), from: fc.nat(8), count: fc.nat(8) }) },
)

interface Due {
  readonly key: string
  readonly time: number
}

describe('timers', () => {
  test('fall due as those of a sorted list, through epochs, undone records, failed epochs, restarts and compactions', () => {
    fc.assert(
      fc.property(fc.array(ACTION, { maxLength: 150, size: 'max' }), (actions) => {
        const kept = make()
        let model: readonly Due[] = []
        let stored = model
        let saved: { mark: number; model: readonly Due[] } | undefined
        const is = (key: string, time: number) => (due: Due) => due.key === key && due.time === time
        const first = () => model.toSorted((a, b) => a.time - b.time || compareKeys(a.key, b.key))[0]
        for (const step of actions) {
          if (step.do === 'set') {
            kept.state.set(step.key, step.time)
            if (!model.some(is(step.key, step.time))) model = [...model, { key: step.key, time: step.time }]
          } else if (step.do === 'cancel') {
            kept.state.cancel(step.key, step.time)
            model = model.filter((due) => !is(step.key, step.time)(due))
          } else if (step.do === 'take') {
            const due = first()
            if (due === undefined) expect(kept.state.peek()).toBeUndefined()
            else expect(kept.state.take()).toMatchObject(due)
            model = model.filter((other) => other !== due)
          } else if (step.do === 'savepoint') saved = { mark: kept.journal.mark(), model }
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
            kept[step.do]()
            if (step.do === 'commit') stored = model
            else model = stored
          }
          expect(kept.state.size).toBe(model.length)
          const due = first()
          if (due === undefined) expect(kept.state.peek()).toBeUndefined()
          else expect(kept.state.peek()).toMatchObject(due)
        }
        kept.commit()
        kept.restart()
        for (let due = first(); due; due = first()) {
          expect(kept.state.take()).toMatchObject(due)
          model = model.filter((other) => other !== due)
        }
        expect(kept.state.peek()).toBeUndefined()
      }),
      { numRuns: 500 },
    )
  })

  test('fall due by time, then by the bytes of their keys', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (keys) => {
        const byBytes = [...new Set(keys)].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
        const { state } = make()
        for (const key of keys) {
          state.set(key, 2)
          state.set(key, 1)
        }
        const taken: [number, string][] = []
        while (state.peek()) {
          const { time, key } = state.take()
          taken.push([time, key])
        }
        expect(taken).toEqual([
          ...byBytes.map((key): [number, string] => [1, key]),
          ...byBytes.map((key): [number, string] => [2, key]),
        ])
      }),
    )
  })

  test('ranks keys in their order, as far as a rank goes', () => {
    const text = fc.oneof(
      fc.string({ unit: fc.constantFrom('a', 'b', '\u0000', '~', '\u007f', 'é', 'я', '😀') }),
      fc.string({ unit: 'binary' }),
    )
    fc.assert(
      fc.property(text, text, (a, b) => {
        const byRank = keyRank(a) - keyRank(b)
        if (byRank !== 0) expect(Math.sign(byRank)).toBe(Math.sign(compareKeys(a, b)))
      }),
      { numRuns: 2_000 },
    )
    expect(keyRank('visitor')).toBeLessThan(keyRank('visitos'))
  })

  test('orders keys by their code points, as their UTF-8 bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
        expect(Math.sign(compareKeys(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)))
      }),
      {
        numRuns: 1_000,
        examples: [
          ['\ue000', '😀'],
          ['\uffff', '\u{10000}'],
          ['a', 'a😀'],
        ],
      },
    )
  })

  test('are one per key and time: setting one again changes nothing, not even its order', () => {
    const { state, journal } = make()
    state.set('a', 1)
    const { order } = state.peek()!
    state.set('b', 1)
    state.set('a', 1)
    expect(state.peek()).toEqual({ key: 'a', time: 1, order })
    expect(state.size).toBe(2)
    expect(journal.mark()).toBe(2)
    state.cancel('nobody', 1)
    expect(journal.mark()).toBe(2)
  })

  test('are stored as what the epoch ended with: one that was set and removed within it is not told', () => {
    const kept = make()
    kept.state.set('a', 1)
    kept.state.take()
    expect(kept.state.delta()).toBeUndefined()
    kept.state.set('b', 1)
    expect(kept.state.delta()!.length).toBe(32 + 20 + 1)
    kept.commit()
    expect(kept.state.delta()).toBeUndefined()
    kept.state.take()
    kept.state.set('b', 1)
    kept.commit()
    kept.restart()
    expect(kept.state.peek()).toMatchObject({ key: 'b', time: 1 })
    kept.state.take()
    kept.commit()
    kept.merge(0, kept.blobs.length)
    expect(kept.blobs).toEqual([])
  })

  test('count on after a restart', () => {
    const kept = make()
    kept.state.set('a', 5)
    kept.state.set('b', 5)
    kept.commit()
    kept.restart()
    kept.state.set('c', 1)
    expect(kept.state.peek()).toEqual({ key: 'c', time: 1, order: 2 })
  })

  test('hold a hundred thousand, cancel half of them, load the rest, and give them in order', () => {
    const kept = make()
    const time = (i: number) => Math.imul(i, 0x9e3779b1) >>> 8
    for (let i = 0; i < 100_000; i++) kept.state.set(`key-${i}`, time(i))
    kept.commit()
    for (let i = 0; i < 100_000; i += 2) kept.state.cancel(`key-${i}`, time(i))
    const takeAll = () => {
      expect(kept.state.size).toBe(50_000)
      let last = -1
      for (let i = 0; i < 50_000; i++) {
        const due = kept.state.take()
        if (due.time < last || Number(due.key.slice(4)) % 2 === 0) expect.unreachable(`${due.key} at ${due.time}`)
        last = due.time
      }
      expect(kept.state.size).toBe(0)
    }
    const mark = kept.journal.mark()
    takeAll()
    kept.journal.undoTo(mark)
    kept.commit()
    kept.restart()
    takeAll()
  })

  test('take no more for a year of carts than for a day', () => {
    const kept = make()
    let most = 0
    for (let epoch = 0; epoch < 500; epoch++) {
      for (let i = 0; i < 200; i++) kept.state.set(`cart-${epoch}-${i}`, epoch + 5)
      while (kept.state.peek()!.time < epoch) kept.state.take()
      kept.commit()
      kept.compact(20_000)
      if (epoch === 100) most = kept.state.memory + kept.stored
    }
    expect(kept.state.memory + kept.stored).toBeLessThan(most * 1.5)
    expect(kept.state.size).toBeLessThan(200 * 8)
  })

  test('refuse a blob that was cut, wherever, one that says another count, and one that is too new', () => {
    const kept = make()
    kept.state.set('a', 1)
    kept.state.set('ключ', 2)
    const bytes = kept.state.delta()!
    const load = (format: string, blob: Uint8Array) => () => make().state.load([{ id: 1, format, bytes: blob }])
    for (let length = 0; length < bytes.length; length++)
      expect(load(TIMERS_FORMAT, bytes.slice(0, length))).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
    const fewer = Uint8Array.from(bytes)
    fewer[4] = 1
    expect(load(TIMERS_FORMAT, fewer)).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
    expect(load('timers/2', bytes)).toThrow(expect.objectContaining({ code: 'STATE_TOO_NEW' }))
    expect(load('table/1', bytes)).toThrow(expect.objectContaining({ code: 'TOPOLOGY_CHANGED' }))
    load(TIMERS_FORMAT, bytes)()
  })
})
