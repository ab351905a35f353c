import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assign, type Candidate } from '../../kafka/assign.ts'
import { readSubscription, writeSubscription } from '../../kafka/membership.ts'

const names = fc.uniqueArray(fc.stringMatching(/^[a-f]{1,3}$/), { minLength: 1, maxLength: 6 })

const members = names.chain((ids) =>
  fc.tuple(
    ...ids.map((id) =>
      fc.record({
        id: fc.constant(id),
        owned: fc
          .uniqueArray(fc.tuple(fc.nat(15), fc.integer({ min: -1, max: 3 })), { selector: ([partition]) => partition })
          .map((pairs) => new Map(pairs)),
      }),
    ),
  ),
)

const given = (partitions: readonly number[], generation: number) =>
  new Map(partitions.map((partition) => [partition, generation]))

/** Each member's partitions, those that are still to come included. */
function whole(partitions: number, candidates: readonly Candidate[]): Map<string, number[]> {
  return new Map(
    [...assign(partitions, candidates)].map(([id, share]) => [
      id,
      [...share.partitions, ...share.coming].sort((a, b) => a - b),
    ]),
  )
}

test('each partition goes to one member, now or later, and the shares differ by one at most', () => {
  fc.assert(
    fc.property(members, fc.integer({ min: 1, max: 12 }), (candidates: Candidate[], partitions) => {
      const shares = [...whole(partitions, candidates).values()]
      expect(shares.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: partitions }, (_, p) => p))
      const sizes = shares.map((share) => share.length)
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
    }),
  )
})

test('what a member has goes to no other before it is given up, and then to the one that it was to come to', () => {
  let moved = 0
  fc.assert(
    fc.property(members, fc.integer({ min: 1, max: 12 }), (candidates: Candidate[], partitions) => {
      const first = assign(partitions, candidates)
      for (const [id, { partitions: own, coming }] of first) {
        moved += coming.length
        for (const partition of own) {
          const claims = candidates.filter(({ owned }) => owned.has(partition))
          const latest = Math.max(...claims.map(({ owned }) => owned.get(partition)!))
          if (claims.length > 0)
            expect(claims.filter(({ owned }) => owned.get(partition) === latest).map((one) => one.id)).toContain(id)
        }
      }
      const second = assign(
        partitions,
        candidates.map(({ id }) => ({ id, owned: given(first.get(id)!.partitions, 4) })),
      )
      for (const { coming } of second.values()) expect(coming).toEqual([])
      for (const [id, { partitions: own }] of first) {
        expect(second.get(id)!.partitions).toEqual(expect.arrayContaining([...own]))
      }
    }),
    { numRuns: 300 },
  )
  expect(moved).toBeGreaterThan(20)
})

test('as few partitions move as can, whoever comes or goes', () => {
  fc.assert(
    fc.property(names, names, fc.integer({ min: 1, max: 16 }), (before, after, partitions) => {
      const first = whole(
        partitions,
        before.map((id) => ({ id, owned: given([], -1) })),
      )
      const second = whole(
        partitions,
        after.map((id) => ({ id, owned: given(first.get(id) ?? [], 1) })),
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
    { id: 'zombie', owned: given([0, 1, 2, 3], 3) },
    { id: 'b', owned: given([0, 1], 5) },
    { id: 'c', owned: given([2, 3], 5) },
  ])
  expect([...shares.get('b')!.partitions, ...shares.get('c')!.partitions].length).toBe(3)
  expect(shares.get('zombie')).toEqual({ partitions: [], coming: [expect.any(Number)] })
})

test('what a member says of itself is read again, and nothing said is nothing owned', () => {
  const owned = new Map([
    [1, 7],
    [5, 6],
  ])
  expect(readSubscription('a', writeSubscription(['x', 'y'], owned))).toEqual({ id: 'a', owned })
  const nothing = readSubscription('a', Buffer.from([0, 0, 0, 0, 0, 0, 255, 255, 255, 255]))
  expect(nothing.owned.size).toBe(0)
})

test('a claim that was not renewed is no newer for the generations that its member has joined since', () => {
  // a came back and waits for the end of what it had; b has worked on it since, and was given it again
  const shares = assign(4, [
    { id: 'a', owned: given([0, 1], 5) },
    { id: 'b', owned: given([0, 1], 7) },
  ])
  expect(shares.get('b')!.partitions).toEqual([0, 1])
  expect(shares.get('a')).toEqual({ partitions: [2, 3], coming: [] })
})
