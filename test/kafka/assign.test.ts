import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assign, type Candidate } from '../../kafka/assign.ts'
import { readSubscription, writeSubscription } from '../../kafka/membership.ts'

const names = fc.uniqueArray(fc.stringMatching(/^[a-f]{1,3}$/), { minLength: 1, maxLength: 6 })

test('each partition goes to one member, and the shares differ by one at most', () => {
  fc.assert(
    fc.property(
      names.chain((ids) =>
        fc.tuple(
          ...ids.map((id) =>
            fc.record({
              id: fc.constant(id),
              owned: fc.uniqueArray(fc.nat(15)),
              generation: fc.integer({ min: -1, max: 3 }),
            }),
          ),
        ),
      ),
      fc.integer({ min: 1, max: 12 }),
      (candidates: Candidate[], partitions) => {
        const shares = [...assign(partitions, candidates).values()]
        expect(shares.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: partitions }, (_, p) => p))
        const sizes = shares.map((share) => share.length)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
      },
    ),
  )
})

test('as few partitions move as can, whoever comes or goes', () => {
  fc.assert(
    fc.property(names, names, fc.integer({ min: 1, max: 16 }), (before, after, partitions) => {
      const first = assign(
        partitions,
        before.map((id) => ({ id, owned: [], generation: -1 })),
      )
      const second = assign(
        partitions,
        after.map((id) => ({ id, owned: first.get(id) ?? [], generation: 1 })),
      )
      // what a member had beyond what it may have now must move, and nothing else
      const most = after.map((id) => Math.min(first.get(id)?.length ?? 0, second.get(id)!.length))
      const kept = after.map((id) => second.get(id)!.filter((p) => first.get(id)?.includes(p)).length)
      expect(kept).toEqual(most)
    }),
  )
})

test('a member that comes back from a pause does not get what others have taken over', () => {
  const shares = assign(4, [
    { id: 'zombie', owned: [0, 1, 2, 3], generation: 3 },
    { id: 'b', owned: [0, 1], generation: 5 },
    { id: 'c', owned: [2, 3], generation: 5 },
  ])
  expect([...shares.get('b')!, ...shares.get('c')!].length).toBe(3)
  expect(shares.get('zombie')).toHaveLength(1)
})

test('what a member says of itself is read again, and nothing said is nothing owned', () => {
  expect(readSubscription('a', writeSubscription(['x', 'y'], [1, 5], 7))).toEqual({
    id: 'a',
    owned: [1, 5],
    generation: 7,
  })
  expect(readSubscription('a', Buffer.from([0, 0, 0, 0, 0, 0, 255, 255, 255, 255]))).toMatchObject({ owned: [] })
})
