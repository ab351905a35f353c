import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readHeader } from '../../core/blob.ts'
import { describe as describeState, expiryOf, mergeBlobs, planCompaction } from '../../core/compaction.ts'
import { createExpiringSet } from '../../core/expiring-set.ts'
import { createTable } from '../../core/table.ts'
import { createTimers } from '../../core/timers.ts'
import { keep } from '../support/kept-state.ts'

const NOTHING = { oldest: true, horizon: Number.NEGATIVE_INFINITY }

const KINDS = {
  'expiring-set/1': () => {
    const kept = keep((deps) => createExpiringSet({ within: 100, ...deps }))
    return { kept, change: (key: string, time: number) => void kept.state.add(key, time) }
  },
  'table/1': () => {
    const kept = keep((deps) => createTable<unknown>({ ttl: 100, ...deps }))
    const change = (key: string, time: number) =>
      time % 5 === 0 ? kept.state.delete(key) : kept.state.set(key, { time, text: 'ж'.repeat(time % 3) }, time)
    return { kept, change }
  },
  'timers/1': () => {
    const kept = keep((deps) => createTimers(deps))
    const change = (key: string, time: number) =>
      time % 5 === 0 ? kept.state.cancel(key, time - 1) : kept.state.set(key, time)
    return { kept, change }
  },
}
const FORMATS = Object.keys(KINDS) as (keyof typeof KINDS)[]

/** The blobs of a few epochs of random changes. */
function blobsOf(
  format: keyof typeof KINDS,
  epochs: readonly (readonly (readonly [number, number])[])[],
): Uint8Array[] {
  const { kept, change } = KINDS[format]()
  for (const changes of epochs) {
    for (const [key, time] of changes) change(`key-${key}`, time)
    kept.commit()
  }
  return kept.blobs.map(({ bytes }) => bytes)
}

const EPOCHS = fc.array(fc.array(fc.tuple(fc.nat(12), fc.nat(60)), { maxLength: 12, size: 'max' }), {
  maxLength: 10,
  size: 'max',
})
const listed = (format: string, blobs: readonly Uint8Array[], watermark?: number) =>
  [...describeState(format, blobs, watermark === undefined ? {} : { watermark })]
    .map((entry) => JSON.stringify(entry))
    .sort()

describe.each(FORMATS)('blobs of %s', (format) => {
  test('say the same merged in any groups as merged at once, and as they did', () => {
    fc.assert(
      fc.property(
        EPOCHS,
        fc.array(fc.tuple(fc.nat(9), fc.nat(9)), { maxLength: 20, size: 'max' }),
        (epochs, merges) => {
          const blobs = blobsOf(format, epochs)
          const whole = listed(format, blobs)
          for (const [from, count] of merges) {
            const run = blobs.slice(from, from + count)
            if (run.length === 0) continue
            const merged = mergeBlobs(format, run, { ...NOTHING, oldest: from === 0 })
            blobs.splice(from, run.length, ...(merged ? [merged] : []))
            if (merged) expect(readHeader(format, merged).count).toBeGreaterThan(0)
          }
          expect(listed(format, blobs)).toEqual(whole)
        },
      ),
      { numRuns: 300 },
    )
  })

  test('merge into the same bytes each time, and once merged stay as they are', () => {
    fc.assert(
      fc.property(EPOCHS, (epochs) => {
        const blobs = blobsOf(format, epochs)
        const merged = mergeBlobs(format, blobs, NOTHING)
        expect(mergeBlobs(format, blobs, NOTHING)).toEqual(merged)
        if (merged) expect(mergeBlobs(format, [merged], NOTHING)).toEqual(merged)
        expect(blobsOf(format, epochs)).toEqual(blobs)
      }),
    )
  })

  test('lose by a horizon only what is dead at it', () => {
    fc.assert(
      fc.property(EPOCHS, fc.nat(60), (epochs, time) => {
        const horizon = 100 + time
        const blobs = blobsOf(format, epochs)
        const alive = format === 'timers/1' ? listed(format, blobs) : listed(format, blobs, horizon)
        const merged = mergeBlobs(format, blobs, { oldest: true, horizon })
        expect(merged ? listed(format, [merged]) : []).toEqual(alive)
        if (format === 'timers/1') return
        for (const entry of describeState(format, blobs)) {
          const kept = alive.includes(JSON.stringify(entry))
          expect(kept).toBe(entry.time + 100 > horizon)
        }
      }),
    )
  })

  test('lose nothing by a horizon that is not finite', () => {
    const blobs = blobsOf(format, [[[1, 1]], [[2, 2]]])
    expect(mergeBlobs(format, blobs, { oldest: true, horizon: Number.POSITIVE_INFINITY })).toEqual(
      mergeBlobs(format, blobs, NOTHING),
    )
  })

  test('are refused when they were cut, wherever, or are too new', () => {
    const blobs = blobsOf(format, [
      [[1, 1]],
      [
        [2, 2],
        [3, 3],
      ],
    ])
    for (let length = 0; length < blobs[1]!.length; length++)
      expect(() => mergeBlobs(format, [blobs[0]!, blobs[1]!.slice(0, length)], NOTHING)).toThrow(
        expect.objectContaining({ code: 'STATE_DAMAGED' }),
      )
    const next = format.replace('/1', '/2')
    expect(() => mergeBlobs(next, blobs, NOTHING)).toThrow(expect.objectContaining({ code: 'STATE_TOO_NEW' }))
    expect(() => mergeBlobs('else/1', blobs, NOTHING)).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }))
  })

  test('say when all of them is dead', () => {
    const [first, second] = blobsOf(format, [
      [
        [1, 7],
        [2, 3],
      ],
      [[3, 9]],
    ])
    expect(expiryOf(format, first!)).toBe(format === 'timers/1' ? Number.POSITIVE_INFINITY : 107)
    expect(expiryOf(format, second!)).toBe(format === 'timers/1' ? Number.POSITIVE_INFINITY : 109)
  })
})

describe('a deletion', () => {
  test.each(['table/1', 'timers/1'] as const)(
    'of %s is kept as long as an older blob may hold what it deletes',
    (format) => {
      const blobs = blobsOf(format, [[[1, 4]], [[1, 5]], [[2, 4]]])
      expect(blobs).toHaveLength(3)
      const newer = mergeBlobs(format, blobs.slice(1), { ...NOTHING, oldest: false })!
      expect(listed(format, [blobs[0]!, newer])).toHaveLength(1)
      const forgetful = mergeBlobs(format, blobs.slice(1), NOTHING)!
      expect(listed(format, [blobs[0]!, forgetful])).toHaveLength(2)
    },
  )

  test('by time is kept like one by hand: an older value that lives longer does not come back', () => {
    const blobs = blobsOf('table/1', [[[1, 44]], [[1, 3]]])
    const newer = mergeBlobs('table/1', blobs.slice(1), { oldest: false, horizon: 110 })!
    expect(newer.length).toBeLessThan(blobs[1]!.length)
    expect(listed('table/1', [blobs[0]!, newer], 110)).toEqual([])
  })
})

describe('what is listed of stored state', () => {
  test('is keys and values with their times', () => {
    const table = blobsOf('table/1', [[[1, 1]], [[2, 3]], [[1, 5]]])
    expect([...describeState('table/1', table)]).toEqual([{ key: 'key-2', value: { time: 3, text: '' }, time: 3 }])
    const timers = blobsOf('timers/1', [
      [
        [2, 9],
        [1, 4],
      ],
      [[1, 5]],
    ])
    expect([...describeState('timers/1', timers)]).toEqual([{ key: 'key-2', time: 9 }])
    const [entry] = describeState('expiring-set/1', blobsOf('expiring-set/1', [[[1, 6]]]))
    expect(entry).toEqual({ fingerprint: expect.stringMatching(/^[0-9a-f]{32}$/), time: 6 })
  })
})

describe('a plan', () => {
  const weights = (...sizes: number[]) => sizes.map((bytes, id) => ({ id, bytes }))

  test('names neighbours, oldest first, and nothing when there are few', () => {
    expect(planCompaction(weights(1, 1, 1, 1, 1, 1, 1))).toBeUndefined()
    expect(planCompaction(weights(1, 1, 1, 1, 1, 1, 1, 1))).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(planCompaction(weights(1_000, 1, 1, 1, 1, 1, 1, 1, 1))).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 33, max: 1e6 })), fc.option(fc.nat(1e6)), (sizes, live) => {
        const plan = planCompaction(weights(...sizes), live === null ? {} : { live, limit: 2e6 })
        if (plan) expect(plan).toEqual(plan.map((_, i) => plan[0]! + i))
        if (plan) expect(plan.length).toBeGreaterThan(1)
      }),
    )
  })

  test('drops leading blobs that are dead whole, and not others', () => {
    const blobs = [10, 30, 20, 40].map((expires, id) => ({ id, bytes: 1, expires }))
    expect(planCompaction(blobs, { horizon: 9 })).toBeUndefined()
    expect(planCompaction(blobs, { horizon: 10 })).toEqual([0])
    expect(planCompaction(blobs, { horizon: 20 })).toEqual([0])
    expect(planCompaction(blobs, { horizon: 30 })).toEqual([0, 1, 2])
    expect(planCompaction(blobs, { horizon: Number.POSITIVE_INFINITY })).toBeUndefined()
  })

  test('merges no more than its limit at once, unless most of what is stored is garbage', () => {
    const large = weights(...Array.from({ length: 20 }, () => 50))
    expect(planCompaction(large, { live: 1_000, limit: 500 })).toHaveLength(10)
    expect(planCompaction(large, { live: 300, limit: 500 })).toHaveLength(10)
    expect(planCompaction(large, { live: 200, limit: 500 })).toHaveLength(20)
  })

  test('keeps the blobs few, and writes no byte again more often than the logarithm of what is stored', () => {
    let blobs: { id: number; bytes: number }[] = []
    let next = 0
    let rewritten = 0
    let most = 0
    for (let epoch = 0; epoch < 20_000; epoch++) {
      blobs.push({ id: next++, bytes: 100 })
      for (let ids = planCompaction(blobs); ids; ids = planCompaction(blobs)) {
        const from = blobs.findIndex(({ id }) => id === ids![0])
        const bytes = blobs.slice(from, from + ids.length).reduce((sum, blob) => sum + blob.bytes, 0)
        rewritten += bytes
        blobs = [...blobs.slice(0, from), { id: next++, bytes }, ...blobs.slice(from + ids.length)]
      }
      most = Math.max(most, blobs.length)
    }
    expect(most).toBeLessThan(40)
    expect(rewritten / (20_000 * 100)).toBeLessThan(Math.log2(20_000))
  })
})
