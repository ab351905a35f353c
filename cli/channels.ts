import type { Channels } from '../core/channel.ts'
import { embeddedChannels } from '../embedded/channels.ts'
import { CHANNEL_SETTINGS, channelTopic, kafkaChannelSink } from '../sinks/kafka-channel.ts'
import { channelOfKafka } from '../sources/kafka-channel.ts'

/** What connects the stages of a pipeline: topics of the Kafka that the environment names, or else embedded logs. */
export function channelsOf(env: Readonly<Record<string, string | undefined>>): Channels {
  if (!env.KAFKA_BROKERS) return embeddedChannels
  return {
    sink: kafkaChannelSink,
    source: (place) => channelOfKafka(place, channelTopic(place), CHANNEL_SETTINGS),
  }
}
