import { type Address, FETCH, LATEST } from './apis.ts'
import type { Cluster } from './cluster.ts'
import { ERROR, refusal } from './errors.ts'
import { Chunk } from './records.ts'

const EVERYTHING = { records: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY }

/**
 * The last sequence that a producer has in a partition at or behind an offset; undefined when it has none there.
 *
 * @throws MillraceError SOURCE_FAILED, retriable
 */
export async function lastSequence(
  cluster: Cluster,
  topic: string,
  partition: number,
  { producer, from }: { producer: string; from: number },
): Promise<number | undefined> {
  const [end] = await cluster.offsets(topic, [partition], LATEST, { committed: false })
  let last: number | undefined
  for (let offset = from; offset < end!; ) {
    const at = offset
    const chunk = await cluster.patiently(() => fetch(cluster, topic, partition, at))
    if (chunk.bytes === 0) break
    const records = chunk.records(offset, EVERYTHING, `${cluster.name}: topic '${topic}' partition ${partition}`)
    for (const { writer } of records) {
      if (writer?.name === producer && writer.sequence > (last ?? -1)) last = writer.sequence
    }
    offset = chunk.next
  }
  return last
}

async function fetch(cluster: Cluster, topic: string, partition: number, offset: number): Promise<Chunk> {
  const broker = await leaderOf(cluster, topic, partition)
  const partitions = [{ partition, offset, maxBytes: 4 * 1024 * 1024 }]
  const request = { maxWait: 100, maxBytes: 8 * 1024 * 1024, committed: false, topics: [{ topic, partitions }] }
  const answer = await cluster.send(broker, 'control', FETCH, request).catch((error) => {
    throw cluster.unreachable(error)
  })
  const fetched = answer.topics[0]!.partitions[0]!
  if (fetched.error) {
    await cluster.refresh([topic])
    throw refusal(`${cluster.name}: topic '${topic}' partition ${partition}`, fetched.error)
  }
  return new Chunk(fetched.records ?? Buffer.alloc(0), [])
}

async function leaderOf(cluster: Cluster, topic: string, partition: number): Promise<Address> {
  if (!cluster.leader(topic, partition)) await cluster.refresh([topic])
  const leader = cluster.leader(topic, partition)
  if (!leader) throw refusal(`${cluster.name}: topic '${topic}' partition ${partition}`, ERROR.LEADER_NOT_AVAILABLE)
  return leader
}
