/** What the group's leader knows of a member. */
export interface Candidate {
  readonly id: string
  /** The partitions that it worked on last, and in which generation of the group. */
  readonly owned: readonly number[]
  readonly generation: number
}

/**
 * Shares partitions out: each to one member, as evenly as it can be, and as few as can be move. The number of a
 * partition stands for that partition of every topic: what belongs together stays together.
 */
export function assign(partitions: number, candidates: readonly Candidate[]): Map<string, number[]> {
  const members = [...candidates].sort((a, b) => (a.id < b.id ? -1 : 1))
  const owners = new Map<number, Candidate>()
  for (const member of members) {
    for (const partition of member.owned) {
      const other = owners.get(partition)
      // a member that comes back from a pause says what it had long ago
      if (partition < partitions && (!other || member.generation > other.generation)) owners.set(partition, member)
    }
  }
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
