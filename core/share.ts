/** What several connectors use together: made by the first that asks for a name, and given to the others. */
export function sharing(): <T>(name: string, make: () => T) => T {
  const shared = new Map<string, unknown>()
  return <T>(name: string, make: () => T): T => {
    if (!shared.has(name)) shared.set(name, make())
    return shared.get(name) as T
  }
}
