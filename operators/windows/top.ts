/** A key with how often it was counted, and how much of that it may have taken over from another. */
type Counted = readonly [key: string, count: number, over: number]

/**
 * The most frequent keys by space-saving (Metwally, Agrawal, El Abbadi, 2005), the most frequent first: exact as long as
 * there were no more keys than it has room for; beyond that a new key takes the place of the least frequent, with its
 * count, so that a count is never too small, and too large by at most all counts over the room.
 */
export type Top = readonly Counted[]

export function withKey(top: Top, key: string, room: number, by = 1, over = 0): Top {
  const found = top.findIndex(([known]) => known === key)
  let made: Counted
  let at: number
  const counts = [...top]
  if (found >= 0) {
    const [, count, before] = top[found]!
    made = [key, count + by, before + over]
    at = found
  } else if (top.length < room) {
    made = [key, by, over]
    at = top.length
  } else {
    const [, least] = top[top.length - 1]!
    made = [key, least + by, least + over]
    at = top.length - 1
  }
  // it moves before those that are counted less often; equals stay in the order in which they came
  for (; at > 0 && counts[at - 1]![1] < made[1]; at--) counts[at] = counts[at - 1]!
  counts[at] = made
  return counts
}

export function merged(a: Top, b: Top, room: number): Top {
  return b.reduce((top, [key, count, over]) => withKey(top, key, room, count, over), a)
}
