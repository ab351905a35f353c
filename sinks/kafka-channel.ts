import type { ChannelPlace, ChannelRow } from '../core/channel.ts'
import { MillraceError } from '../core/errors.ts'
import type { Encoder, Sink } from '../core/sink.ts'
import { partitionOf } from '../embedded/log-partitioner.ts'
import { clusterOf } from '../kafka/cluster.ts'
import { rowText } from '../kafka/rows.ts'
import { clusterSettings } from '../kafka/settings.ts'
import { openKafkaSink } from './kafka.ts'

/** A channel's topic: what was read is deleted by the stage that read it, and nothing else may be. */
export const CHANNEL_SETTINGS = { 'cleanup.policy': 'delete', 'retention.ms': '-1' } as const

/** The topic of a channel between two stages. */
export const channelTopic = ({ pipeline, name }: ChannelPlace): string => `${pipeline}.${name}`

/** The end of a channel that a stage writes to, as a topic which is made where there is none. */
export function kafkaChannelSink(place: ChannelPlace): Sink<ChannelRow> {
  const topic = channelTopic(place)
  const { partitions } = place
  return {
    kind: 'channel',
    guarantee: 'idempotent',
    touches: 'state',
    async open(context) {
      const settings = clusterSettings({}, context.env, `channel "${topic}"`, `millrace-${context.pipeline}`)
      if (!settings) throw new MillraceError('INTERNAL', `channel "${topic}": no Kafka is named`)
      const cluster = clusterOf(settings, context)
      try {
        const create = { partitions, settings: CHANNEL_SETTINGS }
        return await openKafkaSink(
          cluster,
          { topic, create, compression: 'none', encoder: encoder(partitions) },
          context,
        )
      } catch (error) {
        await cluster.release()
        throw error
      }
    },
  }
}

function encoder(partitions: number): Encoder<ChannelRow> {
  const keys = keysOf(partitions)
  return {
    head: 'sequence, tab, key, tab, headers, tab, value',
    row: ({ partition, key, text }, meta) =>
      rowText(meta.version(), partition === undefined ? key : keys[partition]!, undefined, text),
  }
}

/** A key for each partition, for rows that say their partition themselves. */
function keysOf(partitions: number): string[] {
  const keys: string[] = []
  for (let n = 0, found = 0; found < partitions; n++) {
    const partition = partitionOf(`#${n}`, partitions)
    if (keys[partition] !== undefined) continue
    keys[partition] = `#${n}`
    found++
  }
  return keys
}
