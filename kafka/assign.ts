/** What the group's leader knows of a member. */
export interface Candidate {
  readonly id: string
  /** The partitions that it has not given up, each with the generation of the group in which it was given to it. */
  readonly owned: ReadonlyMap<number, number>
}

export interface Share {
  readonly partitions: readonly number[]
  /** What it will have, too, when those who have it have given it up. */
  readonly coming: readonly number[]
}

/**
 * Shares partitions out: each to one member, as evenly as it can be, and as few as can be move. The number of a
 * partition stands for that partition of every topic: what belongs together stays together. What moves from one member
 * to another is nobody's at first: its owner gives it up, says so by joining again, and then it is shared out (KIP-429).
 */
export function assign(partitions: number, candidates: readonly Candidate[]): Map<string, Share> {
  const owners = ownersOf(partitions, candidates)
  return new Map(
    [...even(partitions, candidates, owners)].map(([id, share]) => {
      const moves = (partition: number) => (owners.get(partition)?.id ?? id) !== id
      return [id, { partitions: share.filter((each) => !moves(each)), coming: share.filter(moves) }]
    }),
  )
}

function ownersOf(partitions: number, candidates: readonly Candidate[]): Map<number, Candidate> {
  const owners = new Map<number, Candidate>()
  for (const candidate of candidates) {
    for (const [partition, generation] of candidate.owned) {
      const other = owners.get(partition)?.owned.get(partition) ?? Number.NEGATIVE_INFINITY
      // a member that comes back from a pause says what it had long ago
      if (partition < partitions && generation > other) owners.set(partition, candidate)
    }
  }
  return owners
}

function even(
  partitions: number,
  candidates: readonly Candidate[],
  owners: ReadonlyMap<number, Candidate>,
): Map<string, number[]> {
  const members = [...candidates].sort((a, b) => (a.id < b.id ? -1 : 1))
  const shares = new Map(members.map((member) => [member.id, [] as number[]]))
  for (const [partition, { id }] of owners) shares.get(id)!.push(partition)
  const least = Math.floor(partitions / members.length)
  let larger = partitions % members.length
  const free: number[] = []
  for (let partition = 0; partition < partitions; partition++) if (!owners.has(partition)) free.push(partition)
  for (const { id } of [...members].sort((a, b) => shares.get(b.id)!.length - shares.get(a.id)!.length)) {
    const mine = shares.get(id)!.sort((a, b) => a - b)
    const most = least + (mine.length > least && larger > 0 ? 1 : 0)
    if (most > least) larger--
    free.push(...mine.splice(most))
  }
  free.sort((a, b) => a - b)
  for (const size of [least, least + 1]) {
    for (const { id } of members) {
      const mine = shares.get(id)!
      while (mine.length < size && free.length > 0) mine.push(free.shift()!)
    }
  }
  for (const mine of shares.values()) mine.sort((a, b) => a - b)
  return shares
}
