import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { RawRecord, Source } from '../../core/source.ts'

/** What `numberSource` gives: its place, the number of its key, and a time, a millisecond a record. */
export interface NumberRecord {
  readonly n: number
  readonly key: string
  readonly at: number
}

export const NUMBERS_START = 1_700_000_000_000

/** A schema that takes everything. */
export const anything: StandardSchemaV1<unknown, NumberRecord> = {
  '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as NumberRecord }) },
}

/** A source of so many records a partition, made when they are asked for; `taken` counts how many were. */
export function numberSource(
  records: number,
  { keys = 1_000, partitions = 1 } = {},
): Source & { readonly taken: number } {
  let taken = 0
  return {
    kind: 'numbers',
    name: 'numbers',
    get taken() {
      return taken
    },
    async open() {
      return {
        identity: 'numbers',
        partitions,
        unit: 'records',
        decode: ({ value }) => value,
        async reader(_partition, from) {
          let next = from?.next ?? 0
          return {
            async read(limit) {
              if (next === records) return null
              const end = Math.min(records, next + limit.records)
              const some: RawRecord[] = []
              for (; next < end; next++) some.push(new NumberRaw(next, keys))
              taken += some.length
              return some
            },
            more: async () => undefined,
            lag: async () => records - next,
            close: async () => undefined,
          }
        },
        close: async () => undefined,
      }
    },
  }
}

class NumberRaw implements RawRecord {
  readonly position: number
  readonly next: number
  readonly value: NumberRecord

  constructor(n: number, keys: number) {
    this.position = n
    this.next = n + 1
    this.value = { n, key: `k${n % keys}`, at: NUMBERS_START + n }
  }

  bytes(): Uint8Array {
    return Buffer.from(String(this.position))
  }
}
