import { MillraceError } from './errors.ts'

/** What a Standard Schema made of a value. @throws MillraceError UNDECODABLE that says what does not fit, and where */
export function fitting(result: unknown): unknown {
  const { issues, value } = result as {
    issues?: readonly { message: string; path?: readonly unknown[] }[]
    value?: unknown
  }
  if (result instanceof Promise)
    throw new MillraceError('BAD_PIPELINE', 'a source schema must not be asynchronous: check such things with mapAsync')
  if (!issues) return value
  const shown = issues.slice(0, 3).map(({ message, path = [] }) => {
    const where = path
      .map((step) => (typeof step === 'object' && step !== null && 'key' in step ? String(step.key) : String(step)))
      .join('.')
    return where === '' ? message : `${where}: ${message}`
  })
  throw new MillraceError('UNDECODABLE', shown.join('; '))
}

/** The schema that rows still match: the source's, as long as only operators that pass values on stand between. */
export function schemaOf(node: unknown): unknown {
  const at = node as { kind: string; input?: unknown; options?: { schema: unknown }; definition?: { kind: string } }
  if (at.kind === 'source') return at.options!.schema
  if (at.kind === 'operator' && ['dedup', 'filter', 'tap'].includes(at.definition!.kind)) return schemaOf(at.input)
  return undefined
}
