/** The part of JSON Schema that samples are made from. */
export interface JsonSchema {
  readonly type?: string | readonly string[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly items?: JsonSchema
  readonly prefixItems?: readonly JsonSchema[]
  readonly minItems?: number
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
  readonly allOf?: readonly JsonSchema[]
  readonly $ref?: string
  readonly $defs?: Readonly<Record<string, JsonSchema>>
  readonly format?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly exclusiveMaximum?: number
  readonly multipleOf?: number
  readonly minLength?: number
  readonly maxLength?: number
}

/** Gives a leaf its value: undefined leaves it to the schema. */
export type Choose = (path: string, schema: JsonSchema) => unknown

/**
 * A value of the schema.
 *
 * @param random draws from 0 up to, and not, 1
 * @param serial counts the values that were made, so that names of things differ
 */
export function sampleOf(
  root: JsonSchema,
  { random, serial, choose }: { random: () => number; serial: number; choose: Choose },
): unknown {
  const whole = (below: number) => Math.floor(random() * below)

  const make = (schema: JsonSchema, path: string, depth: number): unknown => {
    if (schema.$ref !== undefined) return make(root.$defs?.[schema.$ref.split('/').at(-1)!] ?? {}, path, depth + 1)
    const chosen = choose(path, schema)
    if (chosen !== undefined) return chosen
    if ('const' in schema) return schema.const
    if (schema.enum) return schema.enum[whole(schema.enum.length)]
    const cases = schema.anyOf ?? schema.oneOf
    if (cases) return make(depth > 6 ? cases.at(-1)! : cases[whole(cases.length)]!, path, depth + 1)
    if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => make(part, path, depth + 1)))
    const type = typeof schema.type === 'object' ? schema.type[whole(schema.type.length)] : schema.type
    switch (type ?? (schema.properties ? 'object' : 'null')) {
      case 'object': {
        const fields = Object.entries(schema.properties ?? {})
        const given = fields.filter(([name]) => schema.required?.includes(name) || (depth < 6 && random() < 0.8))
        return Object.fromEntries(
          given.map(([name, field]) => [name, make(field, path === '' ? name : `${path}.${name}`, depth + 1)]),
        )
      }
      case 'array': {
        if (schema.prefixItems) return schema.prefixItems.map((item, i) => make(item, `${path}.${i}`, depth + 1))
        const length = depth > 6 ? 0 : (schema.minItems ?? 0) + whole(3)
        return Array.from({ length }, (_, i) => make(schema.items ?? {}, `${path}.${i}`, depth + 1))
      }
      case 'string':
        return textOf(schema, path, /id$/i.test(path) ? serial : whole(8))
      case 'integer':
      case 'number':
        return numberOf(schema, random(), type === 'integer')
      case 'boolean':
        return random() < 0.5
      default:
        return null
    }
  }
  return make(root, '', 0)
}

/** A text of the format, that tells which number it was made of. */
export function textOf({ format, minLength = 0, maxLength = 1_000 }: JsonSchema, path: string, n: number): string {
  if (format === 'uuid') return `${n.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`
  if (format === 'email') return `person${n}@example.com`
  if (format === 'uri' || format === 'url') return `https://example.com/${n}`
  if (format === 'date-time') return new Date(1_767_571_200_000 + n * 60_000).toISOString()
  if (format === 'date') return new Date(1_767_571_200_000 + n * 86_400_000).toISOString().slice(0, 10)
  if (format === 'ipv4') return `192.0.2.${n % 256}`
  const name = path.split('.').at(-1) || 'text'
  return `${name}-${n}`.padEnd(minLength, 'x').slice(-maxLength)
}

function numberOf(schema: JsonSchema, random: number, whole: boolean): number {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema
  const least =
    minimum ?? (exclusiveMinimum === undefined ? Math.min(0, maximum ?? 0) : exclusiveMinimum + (whole ? 1 : 0.01))
  const most = Math.min(
    least + 1_000,
    maximum ?? (exclusiveMaximum === undefined ? Infinity : exclusiveMaximum - (whole ? 1 : 0.01)),
  )
  const value = least + random * (most - least)
  if (multipleOf !== undefined)
    return Math.ceil(least / multipleOf) * multipleOf + Math.floor((value - least) / multipleOf) * multipleOf
  return whole ? Math.floor(value) : Math.round(value * 100) / 100
}
