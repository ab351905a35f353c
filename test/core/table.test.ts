import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createTable, TABLE_FORMAT } from '../../core/table.ts'
import { keep } from '../support/kept-state.ts'

const TTL = 50

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-table-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const make = (options: { memory?: number; spill?: string; ttl?: number; revive?: (stored: any) => unknown } = {}) =>
  keep((deps) => createTable<any>({ ttl: TTL, ...deps, ...options }))

/** Keys that are hard to keep apart, or to encode. */
const KEYS = [
  '',
  'a',
  'b',
  'é',
  'ключ',
  '😀',
  '\ud800',
  '\udc00',
  '\ufffd',
  'x'.repeat(100),
  'я'.repeat(100),
  '__proto__',
  ...Array.from({ length: 20 }, (_, i) => `key-${i}`),
]

const VALUE = fc.oneof(
  { weight: 5, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  { weight: 2, arbitrary: fc.nat(9_000).map((length) => ({ text: 'v'.repeat(length) })) },
  { weight: 1, arbitrary: fc.nat(3_000).map((length) => ['ш'.repeat(length), '\ud83d']) },
)

const ACTION = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('set' as const),
      key: fc.constantFrom(...KEYS),
      value: VALUE,
      time: fc.nat(200),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('delete' as const), key: fc.constantFrom(...KEYS) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('get' as const), key: fc.constantFrom(...KEYS) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), by: fc.nat(30) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('savepoint' as const, 'undo' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('commit' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('fail' as const, 'restart' as const, 'end' as const, 'compact' as const, 'list' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('merge' as const), from: fc.nat(8), count: fc.nat(8) }) },
)

describe('a table', () => {
  test.each([
    ['in memory', {}],
    ['with a spill file for nearly all of it', { memory: 10_000 }],
  ])(
    '%s says the same as a map through epochs, undone records, failed epochs, restarts and compactions',
    (_, options) => {
      let runs = 0
      fc.assert(
        fc.property(fc.array(ACTION, { maxLength: 120, size: 'max' }), (actions) => {
          const kept = make('memory' in options ? { ...options, spill: join(folder, `spill-${runs++}`) } : {})
          const { clock } = kept
          type Model = ReadonlyMap<string, { text: string; time: number }>
          let model: Model = new Map()
          let stored = model
          let saved: { mark: number; model: Model } | undefined
          const expected = (key: string) => {
            const known = model.get(key)
            return known && known.time + TTL > clock.watermark ? JSON.parse(known.text) : undefined
          }
          const checkAll = () => {
            for (const key of KEYS) expect(kept.state.get(key)).toEqual(expected(key))
            const listed = [...kept.state.entries()]
            expect(new Map(listed)).toEqual(
              new Map(KEYS.map((key) => [key, expected(key)] as const).filter(([, value]) => value !== undefined)),
            )
          }
          for (const step of actions) {
            if (step.do === 'set') {
              kept.state.set(step.key, step.value, step.time)
              model = new Map(model).set(step.key, { text: JSON.stringify(step.value), time: step.time })
            } else if (step.do === 'delete') {
              kept.state.delete(step.key)
              const without = new Map(model)
              without.delete(step.key)
              model = without
            } else if (step.do === 'get') expect(kept.state.get(step.key)).toEqual(expected(step.key))
            else if (step.do === 'advance') clock.watermark = Math.max(clock.watermark, 0) + step.by
            else if (step.do === 'savepoint') saved = { mark: kept.journal.mark(), model }
            else if (step.do === 'undo') {
              if (saved) {
                kept.journal.undoTo(saved.mark)
                model = saved.model
              }
              saved = undefined
            } else if (step.do === 'merge') kept.merge(step.from, step.from + step.count)
            else if (step.do === 'compact') kept.compact(20_000)
            else if (step.do === 'list') checkAll()
            else {
              saved = undefined
              if (step.do === 'end') {
                const before = clock.watermark
                clock.watermark = Number.POSITIVE_INFINITY
                checkAll()
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
              if (step.do !== 'commit') checkAll()
            }
          }
          checkAll()
          kept.state.close()
        }),
        { numRuns: 300 },
      )
    },
  )

  test('counts what it holds', () => {
    const { state, journal } = make()
    state.set('a', 1, 0)
    state.set('b', 1, 0)
    state.set('a', 2, 0)
    expect(state.size).toBe(2)
    const mark = journal.mark()
    state.delete('a')
    state.delete('a')
    state.delete('nobody')
    state.set('c', 1, 0)
    state.delete('c')
    expect(state.size).toBe(1)
    journal.undoTo(mark)
    expect(state.size).toBe(2)
  })

  test('gives a value back as it was before an undone write, whatever was done to the objects', () => {
    const kept = make()
    const cart = { lines: [1] }
    kept.state.set('a', cart, 0)
    kept.commit()
    cart.lines.push(99)
    const mark = kept.journal.mark()
    const given = kept.state.get('a')
    given.lines.push(2)
    kept.state.set('a', given, 1)
    given.lines.push(3)
    kept.journal.undoTo(mark)
    expect(kept.state.get('a')).toEqual({ lines: [1] })
  })

  test('stores a value as it was when it was set', () => {
    const kept = make()
    const cart = { lines: [1] }
    kept.state.set('a', cart, 0)
    cart.lines.push(2)
    kept.commit()
    cart.lines.push(3)
    kept.restart()
    expect(kept.state.get('a')).toEqual({ lines: [1] })
  })

  test('gives the same value whether it is decoded or not: an undefined field is absent, -0 is 0', () => {
    const { state } = make()
    state.set('a', { here: 1, gone: undefined, zero: -0 }, 0)
    expect('gone' in state.get('a')).toBe(false)
    expect(Object.is(state.get('a').zero, 0)).toBe(true)
  })

  test('refuses what is not JSON, and leaves the former value', () => {
    const kept = make()
    kept.state.set('a', 1, 0)
    expect(() => kept.state.set('a', { at: new Date() }, 1)).toThrow(expect.objectContaining({ code: 'NOT_JSON' }))
    expect(kept.state.get('a')).toBe(1)
    expect(kept.journal.mark()).toBe(1)
  })

  test('forgets a value at the millisecond, and not before', () => {
    const { state, clock } = make()
    state.set('a', 1, 100)
    clock.watermark = 100 + TTL - 1
    expect(state.get('a')).toBe(1)
    clock.watermark = 100 + TTL
    expect(state.get('a')).toBeUndefined()
    expect([...state.entries()]).toEqual([])
    state.set('a', 2, 101)
    expect(state.get('a')).toBe(2)
  })

  test('gives values through revive, after a restart and before it alike', () => {
    const kept = make({ revive: (stored) => ({ total: 0, ...stored, at: new Date(stored.at) }) })
    kept.state.set('a', { at: 5 }, 0)
    expect(kept.state.get('a')).toEqual({ total: 0, at: new Date(5) })
    kept.commit()
    kept.restart()
    expect(kept.state.get('a')).toEqual({ total: 0, at: new Date(5) })
    expect([...kept.state.entries()]).toEqual([['a', { total: 0, at: new Date(5) }]])
  })

  test('stores of each key only what the epoch ended with', () => {
    const kept = make()
    for (let i = 0; i < 1_000; i++) kept.state.set('a', i, 0)
    kept.state.set('gone', 1, 0)
    kept.state.delete('gone')
    expect(kept.state.delta()!.length).toBe(32 + 24 + 1 + 3)
    kept.commit()
    kept.state.delete('a')
    expect(kept.state.delta()).toBeDefined()
    kept.commit()
    kept.restart()
    expect(kept.state.get('a')).toBeUndefined()
    expect(kept.state.size).toBe(0)
  })

  test('keeps what an epoch of many keys and sizes did, over growth, undoing and restarts', () => {
    const kept = make({ ttl: 1e9, memory: 1_000_000, spill: join(folder, 'spill') })
    const value = (i: number) => ({ i, text: 'x'.repeat(i % 97), more: i % 1_000 === 0 ? 'ж'.repeat(150_000) : '' })
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 40_000; i += 1 + round) kept.state.set(`key-${i}`, value(i + round), i)
      const mark = kept.journal.mark()
      for (let i = 0; i < 60_000; i += 3) {
        if (i % 2 === 0) kept.state.delete(`key-${i}`)
        else kept.state.set(`key-${i}`, 'undone', 5)
      }
      kept.journal.undoTo(mark)
      kept.commit()
      kept.compact()
    }
    const check = () => {
      expect(kept.state.size).toBe(40_000)
      for (let i = 0; i < 40_000; i += 11)
        expect(kept.state.get(`key-${i}`)).toEqual(value(i + (i % 3 === 0 ? 2 : i % 2 === 0 ? 1 : 0)))
    }
    check()
    kept.restart()
    check()
    expect(statSync(join(folder, 'spill')).size).toBeGreaterThan(1_000_000)
  })

  test('collects garbage: what is written again and again takes no more than a few times its size', () => {
    const kept = make({ ttl: 1e9 })
    for (let epoch = 0; epoch < 1_000; epoch++) {
      for (let i = 0; i < 200; i++)
        kept.state.set(`key-${(epoch * 31 + i * 7) % 2_000}`, { epoch, text: 'x'.repeat(100) }, epoch)
      kept.commit()
      kept.compact(1_000_000)
    }
    expect(kept.state.live).toBeLessThan(2_000 * 200)
    expect(kept.state.memory).toBeLessThan(10_000_000)
    expect(kept.stored).toBeLessThan(4_000_000)
    expect(kept.blobs.length).toBeLessThan(30)
  })

  test('frees what is dead', () => {
    const kept = make()
    for (let epoch = 0; epoch < 1_000; epoch++) {
      for (let i = 0; i < 200; i++) kept.state.set(`key-${epoch}-${i}`, { text: 'x'.repeat(100) }, epoch)
      kept.clock.watermark = epoch
      kept.commit()
      kept.compact()
    }
    expect(kept.state.size).toBeLessThan(200 * TTL * 3)
    expect(kept.state.memory).toBeLessThan(20_000_000)
    expect(kept.stored).toBeLessThan(200 * TTL * 160 * 3)
  })

  test('keeps what is dead only in an epoch that may still fail', () => {
    const kept = make()
    for (let i = 0; i < 5_000; i++) kept.state.set(`key-${i}`, i, 100)
    kept.clock.watermark = 110
    kept.commit()
    kept.clock.watermark = 1_000
    for (let i = 0; i < 5_000; i++) expect(kept.state.get(`key-${i}`)).toBeUndefined()
    for (let i = 0; i < 5_000; i++) kept.state.set(`other-${i}`, i, 1_000)
    kept.fail()
    for (let i = 0; i < 5_000; i++) expect(kept.state.get(`key-${i}`)).toBe(i)
  })

  test('does not bring an older value back when a newer one dies first', () => {
    const kept = make()
    kept.state.set('a', 'older, lives longer', 100)
    kept.commit()
    kept.state.set('a', 'newer, dies sooner', 10)
    kept.clock.watermark = 10 + TTL
    kept.commit()
    kept.merge(1, 2)
    kept.restart()
    expect(kept.state.get('a')).toBeUndefined()
  })

  test('keeps memory within its budget, and what it spills within a few times what is alive', () => {
    const spill = join(folder, 'deep', 'spill')
    const kept = make({ ttl: 1e9, memory: 500_000, spill })
    let most = 0
    for (let epoch = 0; epoch < 300; epoch++) {
      for (let i = 0; i < 200; i++)
        kept.state.set(`key-${(epoch * 57 + i * 13) % 5_000}`, { epoch, text: 'x'.repeat(400) }, epoch)
      kept.commit()
      kept.compact(10_000_000)
      most = Math.max(most, kept.state.memory)
    }
    expect(most).toBeLessThan(500_000 + 262_144 * 3 + 17 * 128 * 1024)
    expect(statSync(spill).size).toBeGreaterThan(500_000)
    expect(statSync(spill).size).toBeLessThan(5_000 * 450 * 4)
    kept.state.close()
    expect(readdirSync(join(folder, 'deep'))).toEqual([])
  })

  test('stays in memory when the spill file cannot be written', () => {
    writeFileSync(join(folder, 'file'), '')
    const kept = make({ memory: 1_000, spill: join(folder, 'file', 'spill') })
    for (let i = 0; i < 1_000; i++) kept.state.set(`key-${i}`, 'x'.repeat(100), 0)
    kept.commit()
    for (let i = 0; i < 1_000; i++) expect(kept.state.get(`key-${i}`)).toHaveLength(100)
  })

  test('says so when its spill file was cut or changed', () => {
    const spill = join(folder, 'spill')
    const kept = make({ memory: 1_000, spill })
    for (let i = 0; i < 40_000; i++) kept.state.set(`key-${i}`, i, 0)
    kept.commit()
    kept.commit()
    const { size } = statSync(spill)
    const readAll = () => {
      for (let i = 0; i < 40_000; i++) kept.state.get(`key-${i}`)
    }
    writeFileSync(spill, Buffer.alloc(size, 7), { flag: 'r+' })
    expect(readAll).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
    truncateSync(spill, 0)
    expect(readAll).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
  })

  test('tells keys apart whose fingerprints are the same', () => {
    const kept = make()
    kept.state.set('a', 'of a', 0)
    kept.commit()
    const ofA = kept.blobs[0]!.bytes
    const ofB = ofA.slice()
    ofB[32 + 24] = 'b'.charCodeAt(0)
    for (const order of [
      [ofA, ofB],
      [ofB, ofA],
    ]) {
      kept.blobs = order.map((bytes, id) => ({ id, format: TABLE_FORMAT, bytes }))
      kept.restart()
      expect(kept.state.size).toBe(2)
      expect(kept.state.get('a')).toBe('of a')
      kept.merge(0, 2)
      kept.restart()
      expect(kept.state.size).toBe(2)
      kept.state.set('a', 'again', 0)
      expect(new Map(kept.state.entries())).toEqual(
        new Map([
          ['a', 'again'],
          ['b', 'of a'],
        ]),
      )
    }
  })

  test('refuses a blob that was cut, wherever, and one that is too new', () => {
    const kept = make()
    kept.state.set('a', { b: 1 }, 0)
    kept.state.set('c', 'd', 0)
    const bytes = kept.state.delta()!
    const load = (format: string, blob: Uint8Array) => () => make().state.load([{ id: 1, format, bytes: blob }])
    for (let length = 0; length < bytes.length; length++)
      expect(load(TABLE_FORMAT, bytes.slice(0, length))).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
    expect(load('table/2', bytes)).toThrow(expect.objectContaining({ code: 'STATE_TOO_NEW' }))
    load(TABLE_FORMAT, bytes)()
  })
})
