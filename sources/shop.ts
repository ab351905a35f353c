import { crc32 } from 'node:zlib'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import type { OpenSource, RawRecord, Reader, ReadFrom, Source } from '../core/source.ts'
import { type SourceOptions, type SourceStream, stream } from '../core/stream.ts'
import { checkShop, generateShop, type ShopOptions } from './shop-generator.ts'

export interface ShopStreamOptions extends Omit<ShopOptions, 'partition'> {
  /** Lines a second over all partitions, or as fast as they are taken. @default 'max' */
  rate?: number | 'max'
  /** A visitor is always in the same one. @default 1 */
  partitions?: number
  /** The stream's name. @default 'shop.events' */
  name?: string
}

/**
 * Gives the lines of a made-up shop, to try a pipeline on and to load it with: {@link generateShop}.
 *
 * The same options give the same lines, so that a restart goes on where it stopped: it makes the lines before anew, a
 * second for about a million of them.
 */
export function shopSource({ rate = 'max', partitions = 1, name = 'shop.events', ...shop }: ShopStreamOptions): Source {
  checkShop(shop)
  if (rate !== 'max' && !(rate > 0 && Number.isFinite(rate))) {
    throw new MillraceError(
      'BAD_OPTION',
      `shop: rate must be a positive number of lines a second or 'max', got ${shown(rate)}`,
    )
  }
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > 1_024) {
    throw new MillraceError(
      'BAD_OPTION',
      `shop: partitions must be a whole number from 1 to 1024, got ${shown(partitions)}`,
    )
  }
  const { events, ...shape } = shop
  return {
    kind: 'shop',
    name,
    async open({ runtime }, { untilEnd }): Promise<OpenSource> {
      if (untilEnd && events === undefined) {
        throw new MillraceError('BAD_OPTION', 'shop: without `events` it has no end to be read until; say how many')
      }
      return {
        identity: `shop:${JSON.stringify(Object.fromEntries(Object.entries(shape).sort()))}`,
        partitions,
        unit: 'records',
        decode,
        async reader(index, from) {
          const total = events === undefined ? Number.POSITIVE_INFINITY : share(events, index, partitions)
          const lines = generateShop({ ...shape, partition: { index, of: partitions } })[Symbol.iterator]()
          const position = from === undefined ? 0 : comeTo(lines, from)
          return new ShopReader(lines, { position, total, rate: rate === 'max' ? rate : rate / partitions, runtime })
        },
        close: async () => undefined,
      }
    },
  }
}

export interface ShopSourceOptions<S extends StandardSchemaV1> extends ShopStreamOptions, SourceOptions<S> {
  name?: string
}

/**
 * Gives the events of a made-up shop, to try a pipeline on and to load it with: sessions, carts, purchases, and among them
 * repeats, disorder and malformed records.
 *
 * The same options give the same lines, so that a restart goes on where it stopped: it makes the lines before anew, a
 * second for about a million of them.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * const Event = z.object({ visitorId: z.string(), occurredAt: z.number() })
 * fromShop({ seed: 7, events: 100_000, rate: 2_000, schema: Event, key: (e) => e.visitorId, time: (e) => e.occurredAt, lateness: '1m' })
 * ```
 */
export function fromShop<S extends StandardSchemaV1>(
  options: ShopSourceOptions<S>,
): SourceStream<StandardSchemaV1.InferOutput<S>, StandardSchemaV1.InferInput<S>> {
  const { schema, key, time, lateness, name, ...shop } = options
  const named = name === undefined ? {} : { name }
  return stream(shopSource({ ...shop, ...named }), options)
}

class ShopReader implements Reader {
  readonly #lines: Iterator<string>
  readonly #total: number
  readonly #rate: number | 'max'
  readonly #runtime: Runtime
  readonly #began: number
  readonly #from: number
  #position: number

  constructor(
    lines: Iterator<string>,
    { position, total, rate, runtime }: { position: number; total: number; rate: number | 'max'; runtime: Runtime },
  ) {
    this.#lines = lines
    this.#total = total
    this.#rate = rate
    this.#runtime = runtime
    this.#began = runtime.elapsed()
    this.#from = position
    this.#position = position
  }

  async read(limit: { readonly records: number; readonly bytes: number }): Promise<readonly RawRecord[] | null> {
    if (this.#position >= this.#total) return null
    const records: RawRecord[] = []
    const until = Math.min(this.#due(), this.#position + limit.records)
    for (let bytes = 0; this.#position < until && (bytes < limit.bytes || records.length === 0); ) {
      const value: string = this.#lines.next().value
      records.push(new ShopRecord(this.#position++, value))
      bytes += value.length
    }
    return records
  }

  async more(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#position < this.#total && this.#due() <= this.#position) {
      const wanted = ((this.#position + 1 - this.#from) * 1_000) / (this.#rate as number)
      await this.#runtime.sleep(Math.max(1, Math.ceil(this.#began + wanted - this.#runtime.elapsed())), signal)
    }
  }

  async lag(): Promise<number | undefined> {
    const due = this.#due()
    return Number.isFinite(due) ? due - this.#position : undefined
  }

  async close(): Promise<void> {
    this.#lines.return?.()
  }

  /** The position up to which there are lines by now. */
  #due(): number {
    if (this.#rate === 'max') return this.#total
    const seconds = (this.#runtime.elapsed() - this.#began) / 1_000
    return Math.min(this.#total, this.#from + Math.floor(seconds * this.#rate))
  }
}

class ShopRecord implements RawRecord {
  readonly position: number
  readonly value: string

  constructor(position: number, value: string) {
    this.position = position
    this.value = value
  }

  get next(): number {
    return this.position + 1
  }

  bytes(): Uint8Array {
    return Buffer.from(this.value)
  }
}

function comeTo(lines: Iterator<string>, { next, last }: ReadFrom): number {
  for (let position = 0; position < next; position++) {
    const line: string = lines.next().value
    if (position !== last?.position || crc32(line) === last.checksum) continue
    throw new MillraceError(
      'SOURCE_CHANGED',
      `shop: line ${position} is not the one that was given before; this version makes other lines: ` +
        'start anew with another data directory',
    )
  }
  return next
}

function decode({ value, position }: RawRecord): unknown {
  try {
    return JSON.parse(value as string)
  } catch {
    throw new MillraceError('UNDECODABLE', `shop: line ${position} is not JSON; see its bytes in the dead letters`)
  }
}

function share(total: number, index: number, partitions: number): number {
  return Math.floor(total / partitions) + (index < total % partitions ? 1 : 0)
}
