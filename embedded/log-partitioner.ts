const SEED = 0x9747b28c
const M = 0x5bd1e995

/** Murmur2 of bytes, or of a part of them, as Kafka's clients compute it: a signed 32-bit number. */
export function murmur2(data: Uint8Array, from = 0, to = data.length): number {
  let h = SEED ^ (to - from)
  let i = from
  for (; i + 4 <= to; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24)
    k = Math.imul(k, M)
    k ^= k >>> 24
    h = Math.imul(h, M) ^ Math.imul(k, M)
  }
  const rest = to - i
  if (rest > 2) h ^= data[i + 2]! << 16
  if (rest > 1) h ^= data[i + 1]! << 8
  if (rest > 0) h = Math.imul(h ^ data[i]!, M)
  h ^= h >>> 13
  h = Math.imul(h, M)
  return h ^ (h >>> 15)
}

/** The partition of a key, the one that Kafka's default partitioner gives the key's UTF-8 bytes. */
export function partitionOf(key: string, partitions: number): number {
  return partitions === 1 ? 0 : partitionOfHash(murmur2(Buffer.from(key)), partitions)
}

export const partitionOfHash = (hash: number, partitions: number): number => (hash & 0x7fffffff) % partitions
