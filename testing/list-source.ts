import type { Source } from '../core/source.ts'

/** A source whose records a test holds in its hand. */
export interface ListSource extends Source {
  /** Adds a record to a partition, and wakes who waits for it. */
  push(value: unknown, partition?: number): void
  /** Nothing more will come. */
  end(): void
}

/** @param partitions the records of each, to begin with */
export function listSource(name: string, partitions: readonly (readonly unknown[])[]): ListSource {
  const lists = partitions.map((list) => [...list])
  const waiting = new Set<() => void>()
  let ended = false
  const wakeAll = () => {
    for (const wake of waiting) wake()
    waiting.clear()
  }
  return {
    kind: 'list',
    name,
    push(value, partition = 0) {
      lists[partition]!.push(value)
      wakeAll()
    },
    end() {
      ended = true
      wakeAll()
    },
    open: async () => ({
      identity: `list ${name}`,
      partitions: lists.length,
      unit: 'records',
      decode: ({ value }) => value,
      close: async () => undefined,
      reader: async (partition, from) => {
        const list = lists[partition]!
        let next = from?.next ?? 0
        return {
          async read({ records }) {
            if (next === list.length && ended) return null
            return list.slice(next, (next = Math.min(list.length, next + records))).map((value, i, { length }) => {
              const position = next - length + i
              return { position, next: position + 1, value, bytes: () => Buffer.from(JSON.stringify(value)) }
            })
          },
          more: (signal) =>
            new Promise((resolve) => {
              if (next < list.length || ended || signal.aborted) return resolve()
              waiting.add(resolve)
              signal.addEventListener('abort', () => resolve(), { once: true })
            }),
          lag: async () => list.length - next,
          close: async () => undefined,
        }
      },
    }),
  }
}
