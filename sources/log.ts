import type { StandardSchemaV1 } from '@standard-schema/spec'
import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { ConnectorContext, OpenSource, RawRecord, Source } from '../core/source.ts'
import { type SourceOptions, type SourceStream, stream } from '../core/stream.ts'
import { checkLogName, checkPartitions, type Log, openLog } from '../embedded/log.ts'

/** Where a stream that was never read begins: with what there is, with what comes, or at a time of arrival. */
export type StartFrom = 'earliest' | 'latest' | Date

export interface LogOptions {
  /** The log's name: letters, digits, `.`, `_` and `-`. */
  log: string
  /** How many partitions. @default what the log was made with, and 1 when it is made */
  partitions?: number
  /** Where to begin when there is no stored position. @default 'earliest' */
  from?: StartFrom
  /** The stream's name. @default the log's */
  name?: string
}

/**
 * Reads the embedded log, which is made on first use; `log` sinks and other processes append to it.
 *
 * Every record is read once, in the order of its partition; a position outside what the log holds stops the task.
 */
export function logSource({ log, partitions, from = 'earliest', name = log }: LogOptions): Source {
  const where = `log ${shown(log)}`
  checkLogName(log, 'log')
  checkPartitions(partitions, where)
  checkFrom(from, where)
  return {
    kind: 'log',
    name,
    async open(context, { untilEnd }) {
      return openEmbedded({ kind: 'log', log, partitions, from, untilEnd }, context)
    },
  }
}

export interface LogSourceOptions<S extends StandardSchemaV1> extends LogOptions, SourceOptions<S> {
  name?: string
}

/**
 * Reads the embedded log as a stream; the log is made on first use. `log` sinks and other processes append to it.
 *
 * Every record is read once, in the order of its partition. A position outside what the log holds (its retention has
 * taken away what was not read, or it was made anew) stops the task, and says so.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * const Order = z.object({ id: z.string(), customer: z.string(), at: z.number() })
 * fromLog({ log: 'orders', partitions: 3, schema: Order, key: (o) => o.customer, time: (o) => o.at })
 * ```
 */
export function fromLog<S extends StandardSchemaV1>(
  options: LogSourceOptions<S>,
): SourceStream<StandardSchemaV1.InferOutput<S>, StandardSchemaV1.InferInput<S>> {
  return stream(logSource(options), options)
}

/** @throws MillraceError BAD_OPTION when it is no beginning */
export function checkFrom(from: StartFrom, where: string): void {
  if (from === 'earliest' || from === 'latest') return
  if (from instanceof Date && !Number.isNaN(from.getTime())) return
  throw new MillraceError('BAD_OPTION', `${where}: from must be 'earliest', 'latest' or a Date, got ${shown(from)}`)
}

/** Opens a log of the data directory as a source; `kafka` stands on it, too. */
export async function openEmbedded(
  options: {
    readonly kind: string
    readonly log: string
    readonly partitions: number | undefined
    readonly from: StartFrom
    readonly untilEnd: boolean
  },
  { dataDir, runtime }: ConnectorContext,
): Promise<OpenSource> {
  const { kind, log: name, partitions, from, untilEnd } = options
  const log = await openLog({ dataDir, log: name, runtime, ...(partitions !== undefined && { partitions }) })
  const all = Array.from({ length: log.partitions }, (_, partition) => partition)
  const ends = untilEnd ? await Promise.all(all.map(async (partition) => (await log.marks(partition)).high)) : []
  return {
    identity: `${kind}:${name}:${log.id}`,
    partitions: log.partitions,
    unit: 'records',
    decode,
    async reader(partition, stored) {
      const end = ends[partition]
      const begin = stored ?? (await beginning(log, partition, from))
      return log.reader(partition, begin, end === undefined ? {} : { end })
    },
    close: () => log.close(),
  }
}

async function beginning(log: Log, partition: number, from: StartFrom): Promise<number> {
  if (from instanceof Date) return log.offsetAt(partition, from.getTime())
  const { low, high } = await log.marks(partition)
  return from === 'earliest' ? low : high
}

function decode({ value, position }: RawRecord): unknown {
  if (value === null) return null
  const problem = typeof value === 'string' ? 'JSON' : 'UTF-8'
  try {
    if (typeof value === 'string') return JSON.parse(value)
  } catch {
    // Said below, without the payload that the parser's own message quotes.
  }
  throw new MillraceError('UNDECODABLE', `record ${position} is not ${problem}; see its bytes in the dead letters`)
}
