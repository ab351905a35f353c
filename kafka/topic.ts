import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Cluster, Topic } from './cluster.ts'

/** How a topic is made where there is none. */
export interface CreateTopic {
  partitions: number
  /** Copies of each partition. @default the cluster's own */
  replication?: number
  /** Settings of the topic, as in `{ 'retention.ms': '604800000' }`. */
  settings?: Readonly<Record<string, string>>
}

/** @throws MillraceError BAD_OPTION when it is not of its form */
export function checkCreate(create: CreateTopic | undefined, where: string): void {
  if (create === undefined) return
  const whole = (value: unknown) => Number.isInteger(value) && (value as number) > 0
  if (whole(create?.partitions) && (create.replication === undefined || whole(create.replication))) return
  throw new MillraceError(
    'BAD_OPTION',
    `${where}: create must be like { partitions: 8, replication: 3 }, got ${shown(create)}`,
  )
}

/** A topic, which is made when that was asked for. @throws MillraceError NOT_FOUND, or SOURCE_FAILED */
export async function openTopic(cluster: Cluster, topic: string, create: CreateTopic | undefined): Promise<Topic> {
  const found = await cluster.topic(topic)
  if (found) return found
  if (!create) {
    throw new MillraceError(
      'NOT_FOUND',
      `${cluster.name}: there is no topic '${topic}': make it, or say create: { partitions: 8 }`,
    )
  }
  const { partitions, replication = -1, settings = {} } = create
  await cluster.createTopic(topic, partitions, replication, settings)
  return (await cluster.topic(topic))!
}
