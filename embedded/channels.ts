import type { ChannelRow, Channels } from '../core/channel.ts'
import { messageOf } from '../core/errors.ts'
import type { Delivery, Encoder, Outcome } from '../core/sink.ts'
import { type Log, openLog } from './log.ts'
import type { LogEntry } from './log-batch.ts'
import { partitionOf } from './log-partitioner.ts'

const TAB = 9
const NEWLINE = 10

/**
 * Connects the stages of a pipeline through embedded logs, `logs/PIPELINE.CHANNEL` in the data directory.
 *
 * A batch's name is kept with its records: one that comes again is not appended again. Records that were read, and need
 * not be read again, are dropped a segment at a time.
 */
export const embeddedChannels: Channels = {
  sink: ({ pipeline, name, partitions }) => ({
    kind: 'channel',
    guarantee: 'idempotent',
    touches: 'state',
    async open({ dataDir, runtime }) {
      const log = await openLog({ dataDir, log: `${pipeline}.${name}`, partitions, runtime })
      return {
        identity: `channel:${name}:${log.id}`,
        limit: { bytes: 67_108_864 },
        encoder: () => encoder(partitions),
        deliver: (delivery) => deliver(log, delivery),
        close: () => log.close(),
      }
    },
  }),
  source: ({ pipeline, name, partitions }) => ({
    kind: 'channel',
    name,
    async open({ dataDir, runtime }) {
      const log = await openLog({ dataDir, log: `${pipeline}.${name}`, partitions, runtime })
      return {
        identity: `channel:${name}:${log.id}`,
        partitions,
        unit: 'records',
        decode: ({ value }) => JSON.parse(value as string),
        reader: (partition, from) => log.reader(partition, from ?? 0),
        trim: (partition, before) => log.trim(partition, before),
        close: () => log.close(),
      }
    },
  }),
}

function encoder(partitions: number): Encoder<ChannelRow> {
  return {
    head: 'partition, tab, key, tab, value',
    row: ({ partition, key, text }) =>
      `${partition ?? partitionOf(key, partitions)}\t${JSON.stringify(key)}\t${text}\n`,
  }
}

async function deliver(log: Log, { name, task, body }: Delivery): Promise<Outcome> {
  const names = { producer: task, batch: name }
  const appends = [...decode(body)].map(([partition, entries]) => log.append(partition, entries, names))
  const failed = (await Promise.allSettled(appends)).find((one) => one.status === 'rejected')
  return failed ? { kind: 'unknown', reason: messageOf(failed.reason) } : { kind: 'applied' }
}

/** The records of a body, by their partitions. */
function decode(body: Uint8Array): Map<number, LogEntry[]> {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.length)
  const parts = new Map<number, LogEntry[]>()
  for (let at = 0; at < buffer.length; ) {
    const first = buffer.indexOf(TAB, at)
    const second = buffer.indexOf(TAB, first + 1)
    const end = buffer.indexOf(NEWLINE, second)
    const partition = Number(buffer.toString('latin1', at, first))
    const entries = parts.get(partition) ?? []
    parts.set(partition, entries)
    entries.push({
      key: JSON.parse(buffer.toString('utf8', first + 1, second)),
      value: buffer.subarray(second + 1, end),
    })
    at = end + 1
  }
  return parts
}
