/** What an engine must not ask of the machine while it is simulated, and where a call of it is noted. */
const forbidden: readonly [owner: object, name: string][] = [
  [Date, 'now'],
  [Math, 'random'],
  [performance, 'now'],
  [crypto, 'randomUUID'],
  [crypto, 'getRandomValues'],
  [AbortSignal, 'timeout'],
  [globalThis, 'setTimeout'],
  [globalThis, 'setInterval'],
  [globalThis, 'setImmediate'],
]

/**
 * Takes the machine's clock, alarms and randomness away (engine rule 28), and listens for promises that fail with nobody
 * to hear it. What it gives puts all back.
 *
 * @param seen told of each call and each failure
 */
export function guard(seen: (what: string) => void): () => void {
  const before = forbidden.map(([owner, name]) => Object.getOwnPropertyDescriptor(owner, name))
  for (const [owner, name] of forbidden) {
    const value = () => {
      const what = `the machine was asked for ${name}, which is the runtime's to give`
      seen(what)
      throw new Error(what)
    }
    Object.defineProperty(owner, name, { value, configurable: true, writable: true })
  }
  const { Date: RealDate } = globalThis
  globalThis.Date = class extends RealDate {
    constructor(...given: number[]) {
      if (given.length === 0) (RealDate as { now(): number }).now()
      super(...(given as [number]))
    }
  } as DateConstructor
  const unheard = (error: unknown) => seen(`a promise failed, and nobody heard it: ${error}`)
  process.on('unhandledRejection', unheard)
  return () => {
    globalThis.Date = RealDate
    for (const [i, [owner, name]] of forbidden.entries()) {
      if (before[i]) Object.defineProperty(owner, name, before[i])
      else delete (owner as Record<string, unknown>)[name]
    }
    process.off('unhandledRejection', unheard)
  }
}
