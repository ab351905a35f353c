import { shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Delivery, OpenSink, Outcome, RowMeta, Sink } from '../core/sink.ts'
import { checkLogName, checkPartitions, type Log, openLog } from '../embedded/log.ts'
import type { LogEntry } from '../embedded/log-batch.ts'

export interface LogSinkOptions<T> {
  /** The log's name: letters, digits, `.`, `_` and `-`. */
  log: string
  /** Decides the partition; `null`: any. @default the row's key in the stream */
  key?: (row: T, meta: RowMeta) => string | number | bigint | null
  /** What is appended, as JSON; `null` is a tombstone. @default the row */
  value?: (row: T, meta: RowMeta) => unknown
  /** How many partitions. @default what the log was made with, and 1 when it is made */
  partitions?: number
}

const TAB = 9
const NEWLINE = 10

/**
 * Appends rows to the embedded log, where `fromLog` of this and other pipelines reads them. Each is one record: the JSON
 * of the row, with its key.
 *
 * Guarantee: idempotent. A batch's name is kept with its records, in one write, and a batch that the log has is not
 * appended again; one that a crash cut short leaves nothing in that partition. Rows of one key stay in their order.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * events.to(log({ log: 'clean-events', key: (e) => e.visitorId }))
 * ```
 */
export function log<T>({ log: name, key, value, partitions }: LogSinkOptions<T>): Sink<T> {
  const where = `log ${shown(name)}`
  checkLogName(name, 'log')
  checkPartitions(partitions, where)
  for (const [option, given] of [
    ['key', key],
    ['value', value],
  ] as const) {
    if (given === undefined || typeof given === 'function') continue
    throw new MillraceError('BAD_OPTION', `${where}: ${option} must be a function of the row, got ${shown(given)}`)
  }
  return {
    kind: 'log',
    guarantee: 'idempotent',
    touches: 'state',
    async open({ dataDir, runtime, output = '' }): Promise<OpenSink<T>> {
      const opened = await openLog({ dataDir, log: name, runtime, ...(partitions !== undefined && { partitions }) })
      const encoder = {
        head: 'key, tab, value',
        row(row: T, meta: RowMeta) {
          const text = (key === undefined ? meta.key : key(row, meta)) ?? null
          return `${JSON.stringify(text === null ? null : String(text))}\t${encode(value === undefined ? row : value(row, meta), where)}\n`
        },
      }
      return {
        identity: `log:${name}:${opened.id}`,
        limit: { bytes: 67_108_864 },
        encoder: () => encoder,
        deliver: (delivery) => deliver(opened, delivery, `${delivery.task}/${output}`),
        close: () => opened.close(),
      }
    },
  }
}

async function deliver(log: Log, { name, body }: Delivery, producer: string): Promise<Outcome> {
  try {
    await log.produce(decode(body), { producer, batch: name })
    return { kind: 'applied' }
  } catch (error) {
    return { kind: 'unknown', reason: messageOf(error) }
  }
}

function encode(value: unknown, where: string): string {
  if (value === null) return ''
  const text = JSON.stringify(value)
  if (text !== undefined) return text
  throw new MillraceError('NOT_JSON', `${where}: a row must be JSON or null, got ${shown(value)}; say \`value\``)
}

function decode(body: Uint8Array): LogEntry[] {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.length)
  const entries: LogEntry[] = []
  for (let at = 0; at < buffer.length; ) {
    const tab = buffer.indexOf(TAB, at)
    const end = buffer.indexOf(NEWLINE, tab)
    const key: string | null = JSON.parse(buffer.toString('utf8', at, tab))
    entries.push({ key, value: end === tab + 1 ? null : buffer.subarray(tab + 1, end) })
    at = end + 1
  }
  return entries
}
