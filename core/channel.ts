/**
 * The channel port: brings records from one stage of a pipeline to the next, each to the partition of its new key
 * (engine rule 1). A channel is a log of its own with a sink at one end and a source at the other; what is in a record
 * is the engine's, and where the log is kept is the connector's.
 */
import { MillraceError, messageOf } from './errors.ts'
import { jsonText } from './json-text.ts'
import type { Sink } from './sink.ts'
import type { Source } from './source.ts'

/** What a channel's sink is given: a record for its key's partition, or one that says its partition itself. */
export interface ChannelRow {
  /** Absent: the partition of the key, as Kafka's default partitioner chooses it. */
  readonly partition?: number
  readonly key: string
  /** The record's value, on one line. */
  readonly text: string
}

/** One channel of a pipeline. */
export interface ChannelPlace {
  readonly pipeline: string
  /** Unique in the pipeline, and stable. */
  readonly name: string
  readonly partitions: number
}

/** Makes both ends of channels. The log is made by the first that opens an end of it. */
export interface Channels {
  sink(place: ChannelPlace): Sink<ChannelRow>
  /** Records have their `key`; `decode` gives what the text says as JSON. It is always read from its beginning on. */
  source(place: ChannelPlace): Source
}

/**
 * How far a producer, one task of the stage before, had come in event time: a watermark in milliseconds (`null`: minus
 * infinity), `idle` while its sources never gave a record, `end` once they have ended.
 */
export type Mark = number | null | 'idle' | 'end'

/** A record of a channel, or a mark alone: then `cause` is absent. */
export interface Carried {
  /** The partition of the task that sent it. */
  readonly producer: number
  readonly mark: Mark
  readonly time?: number
  /** What caused the record, in words that a lost store makes again (engine rule 14). */
  readonly cause?: string
  readonly value?: unknown
}

/** @throws MillraceError NOT_JSON with the path of what is not JSON in the value */
export function carriedText(producer: number, watermark: number, time: number, cause: string, value: unknown): string {
  let text: string
  try {
    text = jsonText(value).text
  } catch (error) {
    throw new MillraceError(
      'NOT_JSON',
      `repartition: what is brought to another partition must be JSON: ${messageOf(error)}`,
    )
  }
  return `[${producer},${JSON.stringify(markOf(watermark))},${time},${JSON.stringify(cause)},${text}]`
}

export function markText(producer: number, mark: Mark): string {
  return JSON.stringify([producer, mark])
}

/** @throws MillraceError UNDECODABLE when it is no record of a channel */
export function carriedOf(decoded: unknown): Carried {
  if (Array.isArray(decoded) && Number.isInteger(decoded[0]) && (decoded.length === 2 || decoded.length === 5)) {
    const [producer, mark, time, cause, value] = decoded
    return decoded.length === 2 ? { producer, mark } : { producer, mark, time, cause, value }
  }
  throw new MillraceError(
    'UNDECODABLE',
    'this is no record of a channel between stages: something else has written to its log',
  )
}

export function markOf(watermark: number): Mark {
  if (watermark === Number.POSITIVE_INFINITY) return 'end'
  return watermark === Number.NEGATIVE_INFINITY ? null : watermark
}

/** What a mark says of event time; undefined of an idle producer, which says nothing. */
export function watermarkOf(mark: Mark | undefined): number | undefined {
  if (mark === 'idle') return undefined
  if (mark === 'end') return Number.POSITIVE_INFINITY
  return mark ?? Number.NEGATIVE_INFINITY
}
