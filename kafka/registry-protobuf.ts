import protobuf from 'protobufjs'
import type { RegisteredSchema, ValueDecoder } from './registry.ts'

/**
 * Protobuf, as the registry frames it: in front of the message stands which of the schema's messages it is. Names are in
 * camel case and enums are their names, as in Protobuf's JSON; whole numbers of 64 bits are numbers, and a record with one
 * that no number can hold is refused.
 */
export function protobufDecoder(schema: RegisteredSchema): ValueDecoder {
  const root = new protobuf.Root()
  add(root, schema)
  root.resolveAll()
  // in a root of its own, messages stand in the order of the file
  const alone = protobuf.parse(schema.text, new protobuf.Root())
  const first = alone.package === undefined ? alone.root : (alone.root.lookup(alone.package) as protobuf.NamespaceBase)
  const types = new Map<string, protobuf.Type>()
  return (bytes) => {
    const reader = protobuf.Reader.create(bytes)
    const path: number[] = []
    const depth = reader.sint32()
    for (let i = 0; i < depth; i++) path.push(reader.sint32())
    if (depth === 0) path.push(0)
    const key = path.join()
    let type = types.get(key)
    if (!type) {
      type = root.lookupType(nameOf(first, path))
      types.set(key, type)
    }
    const message = type.decode(reader)
    return plain(type.toObject(message, { enums: String, defaults: true, arrays: true, objects: true }))
  }
}

function add(root: protobuf.Root, { text, references }: RegisteredSchema): void {
  for (const reference of references) add(root, reference)
  const { imports = [] } = protobuf.parse(text, root)
  for (const name of imports) {
    // Google's own types come with the library
    const known = protobuf.common.get(name) as { nested?: Record<string, unknown> } | null
    if (known?.nested) root.addJSON(known.nested as Record<string, protobuf.AnyNestedObject>)
  }
}

/** The name of the message at a place: the n-th of the file, and from there the n-th within it. */
function nameOf(from: protobuf.NamespaceBase, path: readonly number[]): string {
  let at = from
  for (const index of path) {
    const type = at.nestedArray.filter((nested) => nested instanceof protobuf.Type)[index]
    if (!type) throw new Error(`it has no message ${path.join('.')}`)
    at = type
  }
  return at.fullName
}

/** Numbers in the place of the library's own for 64 bits, everywhere in a value. */
function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  if ('toNumber' in value && typeof value.toNumber === 'function') {
    const number = value.toNumber() as number
    if (Number.isSafeInteger(number)) return number
    throw new Error('a number of 64 bits is too large')
  }
  for (const [key, inner] of Object.entries(value)) (value as Record<string, unknown>)[key] = plain(inner)
  return value
}
