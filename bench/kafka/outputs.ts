import { Kafka, logLevel } from 'kafkajs'
import { ask } from '../../cli/ask-warehouse.ts'

/** What is in the systems that a case wrote into, repeats counted apart. */
export interface Outputs {
  readonly events: number
  readonly repeats: number
  readonly carts: number
}

/** Asks the embedded warehouse of a data directory. */
export async function inWarehouse(folder: string): Promise<Outputs> {
  const { rows } = await ask('SELECT count(), uniqExact(eventId), (SELECT count() FROM carts) FROM events', folder)
  const [events, distinct, carts] = rows[0]!.map(Number) as [number, number, number]
  return { events, repeats: events - distinct, carts }
}

/** Reads the topics as a reader that sees committed records only. */
export async function inTopics(brokers: string, group: string): Promise<Outputs> {
  const ids = new Set<string>()
  let [events, carts] = [0, 0]
  let heard = performance.now()
  const consumer = new Kafka({ clientId: 'count', brokers: [brokers], logLevel: logLevel.NOTHING }).consumer({
    groupId: `count-${group}`,
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [`${group}.events`, `${group}.carts`], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch: { topic, messages } }) => {
      heard = performance.now()
      if (topic === `${group}.carts`) carts += messages.length
      else {
        events += messages.length
        for (const { value } of messages) ids.add(/"eventId":"([^"]+)"/.exec(value!.toString('latin1'))![1]!)
      }
    },
  })
  while (events === 0 || performance.now() - heard < 2_000) await new Promise((resolve) => setTimeout(resolve, 100))
  await consumer.disconnect()
  return { events, repeats: events - ids.size, carts }
}
