import avro from 'avsc'
import type { RegisteredSchema, ValueDecoder } from './registry.ts'

/**
 * Avro's binary encoding. A record is read with the schema that it was written with; with a reader's schema it is brought
 * to that one by Avro's own rules: fields that the writer did not know get their defaults, others are left away.
 */
export function avroDecoder(schema: RegisteredSchema, readerSchema: string | object | undefined): ValueDecoder {
  const registry: Record<string, avro.Type> = {}
  const typeOf = ({ text, references }: RegisteredSchema): avro.Type => {
    for (const reference of references) typeOf(reference)
    return avro.Type.forSchema(schemaOf(text), { registry })
  }
  const writer = typeOf(schema)
  if (readerSchema === undefined) return (bytes) => writer.fromBuffer(bytes)
  const reader = avro.Type.forSchema(schemaOf(readerSchema))
  const resolver = reader.createResolver(writer)
  return (bytes) => reader.fromBuffer(bytes, resolver)
}

function schemaOf(schema: string | object): avro.Schema {
  if (typeof schema !== 'string') return schema as avro.Schema
  // a primitive's name may stand without quotes
  return /^[a-z]+$/.test(schema) ? schema : (JSON.parse(schema) as avro.Schema)
}
