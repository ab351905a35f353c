import { MillraceError, messageOf } from '../core/errors.ts'
import { deadline, type Runtime } from '../core/runtime.ts'
import type { RawRecord, Reader } from '../core/source.ts'

/** How values are written, beside plain JSON: each behind a zero byte and the number of its schema in a registry. */
export type RegistryFormat = 'json-schema' | 'avro' | 'protobuf'

/** Where the schemas are: a registry that speaks Confluent's HTTP interface (Confluent, Karapace, Apicurio, Redpanda). */
export interface SchemaRegistry {
  /** @default SCHEMA_REGISTRY_URL */
  url?: string
  /** @default SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD, or none */
  auth?: { username: string; password: string }
  /** Avro: the schema that values are brought to, with its defaults for fields that a writer did not know. @default each writer's own */
  readerSchema?: string | object
}

/** A schema as the registry gives it, with those that it refers to. */
export interface RegisteredSchema {
  readonly text: string
  readonly references: readonly (RegisteredSchema & { readonly name: string })[]
}

/** Makes a value of the bytes behind the schema's number. A throw makes the record a dead letter. */
export type ValueDecoder = (bytes: Buffer) => unknown

interface Answer {
  readonly schema: string
  readonly schemaType?: string
  readonly references?: readonly { readonly name: string; readonly subject: string; readonly version: number }[]
}

const TIMEOUT = 10_000
const TYPES: Readonly<Record<RegistryFormat, string>> = { 'json-schema': 'JSON', avro: 'AVRO', protobuf: 'PROTOBUF' }

/** The schemas of one source, fetched when a record of theirs is first read, and kept: a number always means the same schema. */
export class Schemas {
  private readonly url: string
  private readonly format: RegistryFormat
  private readonly readerSchema: string | object | undefined
  private readonly headers: Record<string, string>
  private readonly runtime: Runtime
  private readonly decoders = new Map<number, ValueDecoder>()

  constructor(url: string, format: RegistryFormat, { auth, readerSchema }: SchemaRegistry, runtime: Runtime) {
    this.url = url.replace(/\/+$/, '')
    this.format = format
    this.readerSchema = readerSchema
    this.runtime = runtime
    this.headers = { accept: 'application/vnd.schemaregistry.v1+json, application/json' }
    if (auth)
      this.headers.authorization = `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}`
  }

  /** The value of a record whose schema was loaded. @throws MillraceError UNDECODABLE */
  decode(bytes: Buffer, position: number): unknown {
    const id = idOf(bytes)
    if (id === undefined) {
      throw new MillraceError(
        'UNDECODABLE',
        `record ${position} does not begin with a zero byte and the number of a schema, as ${this.format} through a schema registry does; see its bytes in the dead letters`,
      )
    }
    const decoder = this.decoders.get(id)
    if (!decoder) throw new MillraceError('UNDECODABLE', `record ${position}: the schema registry has no schema ${id}`)
    try {
      return decoder(bytes.subarray(5))
    } catch (error) {
      if (error instanceof MillraceError) throw error
      // The decoders' own messages may quote the payload.
      throw new MillraceError(
        'UNDECODABLE',
        `record ${position} does not fit its schema ${id}; see its bytes in the dead letters`,
      )
    }
  }

  /** Fetches the schemas of these records that are not here. @throws MillraceError SOURCE_FAILED */
  async load(records: readonly RawRecord[]): Promise<void> {
    const wanted = new Set<number>()
    for (const record of records) {
      const { value } = record
      const id = value === null ? undefined : idOf(record.bytes() as Buffer)
      if (id !== undefined && !this.decoders.has(id)) wanted.add(id)
    }
    for (const id of wanted) {
      const answer = await this.get(`/schemas/ids/${id}`)
      if (answer) this.decoders.set(id, await this.decoderOf(id, answer))
    }
  }

  private async decoderOf(id: number, answer: Answer): Promise<ValueDecoder> {
    const { schemaType = 'AVRO' } = answer
    try {
      if (schemaType !== TYPES[this.format])
        return refusing(`schema ${id} is ${schemaType}, but the source says format: '${this.format}'`)
      if (this.format === 'json-schema') return (bytes) => JSON.parse(bytes.toString('utf8'))
      const schema = await this.whole(answer)
      if (this.format === 'avro') return (await import('./registry-avro.ts')).avroDecoder(schema, this.readerSchema)
      return (await import('./registry-protobuf.ts')).protobufDecoder(schema)
    } catch (error) {
      if (error instanceof MillraceError) throw error
      return refusing(`schema ${id} of the registry cannot be used: ${messageOf(error)}`)
    }
  }

  /** A schema with what it refers to, which the registry keeps apart. */
  private async whole({ schema, references = [] }: Answer): Promise<RegisteredSchema> {
    const found = await Promise.all(
      references.map(async ({ name, subject, version }) => {
        const answer = await this.get(`/subjects/${encodeURIComponent(subject)}/versions/${version}`)
        if (!answer) throw new Error(`it refers to ${subject}, version ${version}, which is not there`)
        return { name, ...(await this.whole(answer)) }
      }),
    )
    return { text: schema, references: found }
  }

  /** Undefined when the registry has no such thing. @throws MillraceError SOURCE_FAILED */
  private async get(path: string): Promise<Answer | undefined> {
    const limit = deadline(this.runtime, TIMEOUT)
    const failed = (what: string, retriable: boolean, cause?: unknown) =>
      new MillraceError('SOURCE_FAILED', `the schema registry at ${this.url} ${what}`, { retriable, cause })
    try {
      const response = await fetch(`${this.url}${path}`, { headers: this.headers, signal: limit.signal })
      if (response.ok) return (await response.json()) as Answer
      await response.body?.cancel()
      if (response.status === 404) return undefined
      const refused = response.status === 401 || response.status === 403
      throw failed(
        `answers ${response.status}${refused ? '; give it the right SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD' : ''}`,
        !refused,
      )
    } catch (error) {
      if (error instanceof MillraceError) throw error
      const { cause } = error as { cause?: unknown }
      throw failed(`cannot be reached: ${messageOf(cause ?? error)}`, true, error)
    } finally {
      limit.clear()
    }
  }
}

/** A reader that gives records only when their schemas are here, so that they can be decoded without waiting. */
export function withSchemas(reader: Reader, schemas: Schemas): Reader {
  let held: readonly RawRecord[] | undefined
  return {
    async read(limit) {
      held ??= (await reader.read(limit)) ?? undefined
      if (held === undefined) return null
      await schemas.load(held)
      const records = held
      held = undefined
      return records
    },
    more: (signal) => (held === undefined ? reader.more(signal) : Promise.resolve()),
    lag: () => reader.lag(),
    close: () => reader.close(),
  }
}

const refusing =
  (reason: string): ValueDecoder =>
  () => {
    throw new MillraceError('UNDECODABLE', reason)
  }

function idOf(bytes: Buffer): number | undefined {
  return bytes.length >= 5 && bytes[0] === 0 ? bytes.readInt32BE(1) : undefined
}
