import { MillraceError } from './errors.ts'

const DEEPEST = 500

const EXACT = 0
const CHANGED = 1
const REFUSED = 2

/**
 * The JSON text of a value that is to be kept, and whether the text gives exactly this value back. An absent field that
 * is written as `undefined` is left out, as everywhere in JSON; that, a `-0` and an object without a prototype make a
 * value whose text is right, but does not give the same back.
 *
 * @throws MillraceError NOT_JSON with the path of what is not JSON: NaN, an infinity, a bigint, a function, a symbol,
 * `undefined` outside an object's field, a Date, a Map or any other instance of a class, a cycle
 */
export function jsonText(value: unknown): { readonly text: string; readonly exact: boolean } {
  const verdict = inspect(value, 0)
  if (verdict === REFUSED) throw refusal(value)
  return { text: JSON.stringify(value), exact: verdict === EXACT }
}

function inspect(value: unknown, depth: number): number {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return EXACT
    case 'number':
      if (!Number.isFinite(value)) return REFUSED
      return value === 0 && 1 / value < 0 ? CHANGED : EXACT
    case 'object':
      if (value === null) return EXACT
      if (depth > DEEPEST) return REFUSED
      return Array.isArray(value)
        ? inspectArray(value, depth + 1)
        : inspectObject(value as Record<string, unknown>, depth + 1)
    default:
      return REFUSED
  }
}

function inspectArray(value: readonly unknown[], depth: number): number {
  let worst = EXACT
  for (let i = 0; i < value.length; i++) {
    const verdict = inspect(value[i], depth)
    if (verdict > worst) worst = verdict
  }
  return worst
}

function inspectObject(value: Record<string, unknown>, depth: number): number {
  if (!isPlain(value)) return REFUSED
  let worst = Object.getPrototypeOf(value) === Object.prototype ? EXACT : CHANGED
  for (const field in value) {
    const held = value[field]
    const verdict = held === undefined ? CHANGED : inspect(held, depth)
    if (verdict > worst) worst = verdict
  }
  return worst
}

/** An object literal's object, of this realm or of another. */
function isPlain(value: object): boolean {
  return hasPlainPrototype(value) && Object.getOwnPropertySymbols(value).length === 0
}

function hasPlainPrototype(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null
}

/** The error for a value that was refused: walks it once more, slowly, and keeps the path. */
function refusal(value: unknown): MillraceError {
  const found = offender(value, 'value', new Set())
  return new MillraceError(
    'NOT_JSON',
    `${found ?? 'value is not JSON'}. What is kept must be JSON: numbers, strings, booleans, null, arrays and plain objects`,
  )
}

function offender(value: unknown, path: string, above: Set<unknown>): string | undefined {
  if (typeof value !== 'object' || value === null)
    return inspect(value, 0) === REFUSED ? `${path} is ${named(value)}` : undefined
  if (above.has(value)) return `${path} is a cycle: it is inside itself`
  if (above.size > DEEPEST) return `${path} is more than ${DEEPEST} levels deep`
  if (!Array.isArray(value) && !isPlain(value)) return `${path} is ${named(value)}`
  above.add(value)
  const fields = Array.isArray(value) ? value.keys() : Object.keys(value)
  for (const field of fields) {
    const held = (value as Record<string | number, unknown>)[field]
    if (held === undefined && !Array.isArray(value)) continue
    const found = offender(
      held,
      typeof field === 'number' ? `${path}[${field}]` : /^[\w$]{1,40}$/.test(field) ? `${path}.${field}` : `${path}[…]`,
      above,
    )
    if (found) return found
  }
  above.delete(value)
  return undefined
}

function named(value: unknown): string {
  if (typeof value === 'number' || value === undefined) return String(value)
  if (typeof value !== 'object' || value === null) return `a ${typeof value}`
  if (hasPlainPrototype(value)) return 'an object with symbols for names'
  return `an instance of ${value.constructor?.name || 'a class'}`
}
