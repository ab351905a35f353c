import type { ChannelPlace } from '../core/channel.ts'
import type { Source } from '../core/source.ts'
import { clusterOf } from '../kafka/cluster.ts'
import type { KafkaRecord } from '../kafka/records.ts'
import { clusterSettings } from '../kafka/settings.ts'
import { kafkaSource } from './kafka.ts'

/** The end of a channel that a stage reads, whose topic's partitions its workers share in a group of the stage's own. */
export function channelOfKafka(place: ChannelPlace, topic: string, settings: Readonly<Record<string, string>>): Source {
  const source = kafkaSource({ topic, name: place.name, create: { partitions: place.partitions, settings } })
  return {
    kind: 'channel',
    name: place.name,
    async open(context, options) {
      const open = await source.open(context, options)
      const cluster = clusterOf(clusterSettings({}, context.env, topic, `millrace-${context.pipeline}`)!, context)
      return {
        ...open,
        decode: (record) => JSON.parse((record as KafkaRecord).text()!),
        trim: (partition, before) => cluster.deleteRecords(topic, partition, before),
        async close() {
          await open.close()
          await cluster.release()
        },
      }
    },
  }
}
