import { Kafka, logLevel } from 'kafkajs'

/** A consumer of kafkajs that counts records and does nothing else with them. It prints the count ten times a second. */
const [brokers, topic, group] = process.argv.slice(2) as [string, string, string]
const consumer = new Kafka({ clientId: 'raw', brokers: [brokers], logLevel: logLevel.NOTHING }).consumer({
  groupId: group,
  maxBytesPerPartition: 4 * 1_048_576,
  maxBytes: 32 * 1_048_576,
})
let read = 0
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
await consumer.run({
  eachBatchAutoResolve: true,
  eachBatch: async ({ batch }) => {
    read += batch.messages.length
  },
})
setInterval(() => console.log(JSON.stringify({ read })), 100)
