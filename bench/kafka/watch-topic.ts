import { Kafka, logLevel } from 'kafkajs'

/**
 * Reads what a job writes, as a reader that sees committed records only, and prints ten times a second how old events
 * were when they came: the milliseconds of some of them, and the newest one's time.
 */
/** One event in so many is looked at: looking at all would be as much work as the job. */
const OF = 20
const [brokers, topic] = process.argv.slice(2) as [string, string]
const consumer = new Kafka({ clientId: 'watch', brokers: [brokers], logLevel: logLevel.NOTHING }).consumer({
  groupId: `watch-${topic}`,
  maxWaitTimeInMs: 5,
})
let ages: number[] = []
let newest = 0
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
await consumer.run({
  autoCommit: false,
  eachBatch: async ({ batch }) => {
    const now = Date.now()
    for (const { value, offset } of batch.messages) {
      if (Number(offset) % OF !== 0) continue
      const text = value!.toString('latin1')
      const at = Number(/"occurredAt":(\d+)/.exec(text)![1])
      ages.push(now - at)
      newest = Math.max(newest, at)
    }
  },
})
setInterval(() => {
  console.log(JSON.stringify({ now: Date.now(), newest, ages }))
  ages = []
}, 100)
