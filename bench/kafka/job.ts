import { type Pipeline, pipeline } from 'millrace'
import { dedup } from 'millrace/operators'
import { clickhouse, kafka } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'
import { abandonedCarts, cartTable, eventTable } from '../pipelines.ts'

const Event = z.object({
  eventId: z.string(),
  visitorId: z.string(),
  type: z.enum(['view', 'addtocart', 'transaction']),
  itemId: z.string(),
  transactionId: z.string().nullable(),
  page: z.string(),
  occurredAt: z.int().positive(),
})

/** Where the job reads, and what it writes into. */
export interface JobOptions {
  readonly topic: string
  /** The name of the pipeline, its consumer group, and the beginning of its topics' names. */
  readonly group: string
  readonly sink: 'kafka' | 'clickhouse'
}

/** The job that `bench/kafka-streams/CartStreams.java` does in Kafka Streams: checked, without repeats, and its abandoned carts. */
export function job({ topic, group, sink }: JobOptions): Pipeline {
  const events = fromKafka({
    topic,
    schema: Event,
    key: (e) => e.visitorId,
    time: (e) => e.occurredAt,
    lateness: '1m',
  }).pipe(dedup({ by: (e) => e.eventId, within: '24h' }))
  const carts = abandonedCarts(events)
  if (sink === 'kafka')
    return pipeline(group, {
      events: events.to(kafka({ topic: `${group}.events`, key: (e) => e.visitorId })),
      carts: carts.to(kafka({ topic: `${group}.carts`, key: (c) => c.visitorId })),
    })
  return pipeline(group, { events: events.to(clickhouse(eventTable)), carts: carts.to(clickhouse(cartTable)) })
}
