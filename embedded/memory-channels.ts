import type { ChannelRow, Channels } from '../core/channel.ts'
import type { RawRecord, Reader } from '../core/source.ts'
import { partitionOf } from './log-partitioner.ts'

interface Kept {
  readonly key: string
  readonly text: string
}

/** What channels keep: it outlives the worker that is connected to it, as a log on a disk does. */
export class ChannelMemory {
  private readonly channels = new Map<string, Kept[][]>()
  private readonly names = new Set<string>()
  private readonly waiting = new Set<() => void>()

  lists(name: string, partitions: number): Kept[][] {
    const lists = this.channels.get(name) ?? Array.from({ length: partitions }, () => [])
    this.channels.set(name, lists)
    return lists
  }

  /** Adds a batch's records, once however often it comes. */
  append(name: string, batch: string, rows: readonly (Kept & { partition: number })[]): void {
    if (this.names.has(batch)) return
    this.names.add(batch)
    for (const { partition, key, text } of rows) this.channels.get(name)![partition]!.push({ key, text })
    for (const wake of this.waiting) wake()
    this.waiting.clear()
  }

  reader(list: readonly Kept[], from: number): Reader {
    let next = from
    return {
      async read({ records }) {
        const some = list.slice(next, next + records).map(({ key, text }, i): RawRecord => {
          const position = next + i
          return { position, next: position + 1, key, value: text, bytes: () => Buffer.from(text) }
        })
        next += some.length
        return some
      },
      more: (signal) =>
        new Promise((resolve) => {
          if (next < list.length || signal.aborted) return resolve()
          this.waiting.add(resolve)
          signal.addEventListener('abort', () => resolve(), { once: true })
        }),
      lag: async () => list.length - next,
      close: async () => undefined,
    }
  }
}

/**
 * Connects the stages of a pipeline in memory, for tests and trials.
 *
 * @param alive whether the worker that this was made for is still at work: what a dead one sends goes nowhere
 */
export function memoryChannels(memory: ChannelMemory, alive: () => boolean = () => true): Channels {
  return {
    sink: ({ name, partitions }) => ({
      kind: 'channel',
      guarantee: 'idempotent',
      touches: 'state',
      async open() {
        memory.lists(name, partitions)
        return {
          identity: `channel:${name}`,
          encoder: () => ({
            head: 'json lines',
            row: ({ partition, key, text }: ChannelRow) =>
              `${JSON.stringify({ partition: partition ?? partitionOf(key, partitions), key, text })}\n`,
          }),
          async deliver({ name: batch, body }) {
            if (!alive()) return new Promise(() => undefined)
            const lines = Buffer.from(body).toString().trimEnd().split('\n')
            memory.append(
              name,
              batch,
              lines.map((line) => JSON.parse(line)),
            )
            return { kind: 'applied' }
          },
          close: async () => undefined,
        }
      },
    }),
    source: ({ name, partitions }) => ({
      kind: 'channel',
      name,
      open: async () => ({
        identity: `channel:${name}`,
        partitions,
        unit: 'records',
        decode: ({ value }) => JSON.parse(value as string),
        reader: async (partition, from) => memory.reader(memory.lists(name, partitions)[partition]!, from?.next ?? 0),
        close: async () => undefined,
      }),
    }),
  }
}
