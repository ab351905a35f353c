/** JSON Schema, as much of it as says what a column holds. */
interface JsonSchema {
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly items?: JsonSchema
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
  readonly allOf?: readonly JsonSchema[]
  readonly format?: string
}

interface Derived {
  readonly type: string
  readonly nullable: boolean
}

/** What a schema says of the columns, as far as it says anything. */
export interface DerivedColumns {
  readonly columns: Readonly<Record<string, string>>
  /** Fields whose type it does not say, or that one column cannot hold. */
  readonly unclear: readonly string[]
}

/**
 * The columns for rows of a Standard Schema that can say itself as JSON Schema (zod 4.2, arktype 2.1.28, valibot with
 * its JSON Schema package): text → String, a set of texts → LowCardinality(String), whole numbers → Int64, numbers →
 * Float64, booleans → Bool, dates → DateTime64(3), bigints → Int64, lists → Array, objects → JSON; Nullable where a
 * field may be null or absent. Of a union of objects, the columns of all.
 *
 * @returns undefined when the schema does not say what its rows are
 */
export function columnsOf(schema: unknown): DerivedColumns | undefined {
  const json = jsonSchemaOf(schema)
  const variants = json && objectsOf(json)
  if (!variants || variants.length === 0) return undefined
  const names = [...new Set(variants.flatMap((variant) => Object.keys(variant.properties ?? {})))]
  if (names.length === 0) return undefined
  const columns: Record<string, string> = {}
  const unclear: string[] = []
  for (const name of names) {
    const derived: readonly (Derived | undefined)[] = variants
      .map((variant) => variant.properties?.[name])
      .map((field) => field && derive(field))
    const known = derived.filter((each) => each !== undefined)
    const types = [...new Set(known.map((each) => each.type))]
    const optional =
      variants.some((variant) => !variant.required?.includes(name)) || known.some((each) => each.nullable)
    const type = types.length === 1 ? types[0]! : types.every((each) => /String/.test(each)) ? 'String' : ''
    const stated = variants.every((variant, n) => !variant.properties?.[name] || derived[n] !== undefined)
    if (type === '' || !stated) unclear.push(name)
    else columns[name] = optional ? nullable(type) : type
  }
  return { columns, unclear }
}

function nullable(type: string): string {
  if (type === 'LowCardinality(String)') return 'LowCardinality(Nullable(String))'
  return type.startsWith('Array(') || type === 'JSON' ? type : `Nullable(${type})`
}

function jsonSchemaOf(schema: unknown): JsonSchema | undefined {
  const standard = (
    schema as { '~standard'?: { jsonSchema?: { output?: (options: object) => unknown } } } | undefined
  )?.['~standard']
  try {
    return standard?.jsonSchema?.output?.({
      target: 'draft-2020-12',
      libraryOptions: { unrepresentable: 'any', override: sayWhatJsonCannot },
    }) as JsonSchema | undefined
  } catch {
    return undefined
  }
}

/** zod leaves a date and a bigint out of JSON Schema, and asks here. */
function sayWhatJsonCannot(context: {
  zodSchema?: { _zod?: { def?: { type?: string } } }
  jsonSchema: { type?: string; format?: string }
}) {
  const kind = context.zodSchema?._zod?.def?.type
  if (kind === 'date') Object.assign(context.jsonSchema, { type: 'string', format: 'millrace-date' })
  if (kind === 'bigint') context.jsonSchema.type = 'integer'
}

function objectsOf(json: JsonSchema): readonly JsonSchema[] | undefined {
  const union = json.anyOf ?? json.oneOf
  if (union) {
    const parts = union.map(objectsOf)
    return parts.every((part) => part !== undefined) ? parts.flat() : undefined
  }
  if (json.allOf) {
    const parts = json.allOf.map(objectsOf)
    if (!parts.every((part) => part?.length === 1)) return undefined
    const all = parts.map((part) => part![0]!)
    return [
      {
        properties: Object.assign({}, ...all.map((part) => part.properties)),
        required: all.flatMap((part) => part.required ?? []),
      },
    ]
  }
  return json.properties ? [json] : undefined
}

function derive(field: JsonSchema): Derived | undefined {
  const union = field.anyOf ?? field.oneOf
  if (union) {
    const parts = union.filter((part) => part.type !== 'null').map(derive)
    const types = [...new Set(parts.map((part) => part?.type))]
    if (types.length !== 1 || types[0] === undefined) return undefined
    return { type: types[0], nullable: parts.length < union.length || parts.some((part) => part?.nullable) }
  }
  const types = typeof field.type === 'string' ? [field.type] : (field.type ?? [typeOf(field)])
  const rest = types.filter((type) => type !== 'null')
  const type = rest.length === 1 ? columnType(rest[0]!, field) : undefined
  return type === undefined ? undefined : { type, nullable: rest.length < types.length || !!field.enum?.includes(null) }
}

function typeOf({ enum: values, const: value }: JsonSchema): string {
  const kinds = new Set((values ?? [value]).filter((each) => each !== null).map((each) => typeof each))
  return kinds.size === 1 ? [...kinds][0]! : 'unknown'
}

function columnType(type: string, field: JsonSchema): string | undefined {
  if (type === 'string') {
    if (field.format === 'millrace-date') return 'DateTime64(3)'
    return field.enum || field.const !== undefined ? 'LowCardinality(String)' : 'String'
  }
  if (type === 'integer') return 'Int64'
  if (type === 'number') return 'Float64'
  if (type === 'boolean') return 'Bool'
  if (type === 'object') return 'JSON'
  if (type !== 'array' || !field.items) return undefined
  const items = derive(field.items)
  if (!items) return undefined
  return `Array(${items.nullable ? nullable(items.type) : items.type})`
}
