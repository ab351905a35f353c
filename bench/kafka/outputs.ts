import { type IHeaders, Kafka, logLevel } from 'kafkajs'
import { ask } from '../../cli/ask-warehouse.ts'

/** What is in the systems that a case wrote into, as a reader has it who drops what Millrace's headers say that he had. */
export interface Outputs {
  readonly events: number
  /** Events of them that are there again. */
  readonly repeats: number
  /** What such a reader drops, and another one sees twice. */
  readonly dropped?: number
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
  const last = new Map<string, number>()
  let [events, carts, dropped] = [0, 0, 0]
  let heard = performance.now()
  const had = (partition: string, headers: IHeaders | undefined) => {
    if (headers?.['mr-from'] === undefined) return false
    const writer = `${partition} ${headers['mr-from']}`
    const sequence = Number(String(headers['mr-seq']))
    if (sequence <= (last.get(writer) ?? -1)) return true
    last.set(writer, sequence)
    return false
  }
  const consumer = new Kafka({ clientId: 'count', brokers: [brokers], logLevel: logLevel.NOTHING }).consumer({
    groupId: `count-${group}`,
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [`${group}.events`, `${group}.carts`], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch: { topic, partition, messages } }) => {
      heard = performance.now()
      for (const { value, headers } of messages) {
        if (had(`${topic} ${partition}`, headers)) dropped++
        else if (topic === `${group}.carts`) carts++
        else {
          events++
          ids.add(/"eventId":"([^"]+)"/.exec(value!.toString('latin1'))![1]!)
        }
      }
    },
  })
  while (events === 0 || performance.now() - heard < 2_000) await new Promise((resolve) => setTimeout(resolve, 100))
  await consumer.disconnect()
  return { events, repeats: events - ids.size, ...(last.size > 0 ? { dropped } : {}), carts }
}
