import { createRequire, syncBuiltinESMExports } from 'node:module'
import type { Place } from './finding.ts'
import { calledByAuthor, withDeepStacks } from './stack.ts'

export interface Traps {
  /** Whether a function of the flow is at work now. */
  inFlow(): boolean
  /** Told when the author's code, in the flow, calls what it may not; what it gets is harmless, and the same each time. */
  caught(kind: 'WALL_CLOCK' | 'CHANCE' | 'SIDE_EFFECT', what: string, place: Place): void
  /** What clocks say in the flow, epoch milliseconds. */
  readonly now: number
}

type Any = (...args: any[]) => any

/** Puts traps into the global functions that a flow may not call, for as long as the work takes. */
export async function withTraps<T>({ inFlow, caught, now }: Traps, work: () => Promise<T>): Promise<T> {
  const undo: (() => void)[] = []
  const guilty = () =>
    inFlow()
      ? calledByAuthor(
          withDeepStacks(() => new Error().stack),
          import.meta.url,
        )
      : undefined

  function trap(
    owner: object | undefined,
    name: string,
    kind: Parameters<Traps['caught']>[0],
    what: string,
    answer: Any,
  ) {
    const before = (owner as Record<string, unknown> | undefined)?.[name]
    if (!owner || typeof before !== 'function') return
    const own = Object.getOwnPropertyDescriptor(owner, name)
    if (own?.configurable === false) return
    const trapped = function (this: unknown, ...args: unknown[]) {
      const place = guilty()
      if (!place) return (before as Any).apply(this, args)
      caught(kind, what, place)
      return answer(...args)
    }
    Object.defineProperty(owner, name, { value: Object.assign(trapped, before), configurable: true, writable: true })
    undo.push(() => {
      if (own) Object.defineProperty(owner, name, own)
      else delete (owner as Record<string, unknown>)[name]
    })
  }

  const RealDate = Date
  const date = (what: string, answer: () => unknown, otherwise: () => unknown) => {
    const place = guilty()
    if (!place) return otherwise()
    caught('WALL_CLOCK', what, place)
    return answer()
  }
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, asked) =>
      (args.length === 0
        ? date(
            'new Date()',
            () => new RealDate(now),
            () => new RealDate(),
          )
        : Reflect.construct(target, args, asked)) as object,
    apply: () =>
      date(
        'Date()',
        () => new RealDate(now).toString(),
        () => RealDate(),
      ),
    get: (target, name, asked) =>
      name === 'now'
        ? () =>
            date(
              'Date.now()',
              () => now,
              () => RealDate.now(),
            )
        : Reflect.get(target, name, asked),
  })
  undo.push(() => {
    globalThis.Date = RealDate
  })

  const crypto = process.getBuiltinModule('node:crypto')
  const id = () => '00000000-0000-4000-8000-000000000000'
  const never = () => new Promise<never>(() => undefined)
  const real = { setTimeout, setImmediate }
  trap(performance, 'now', 'WALL_CLOCK', 'performance.now()', () => 0)
  trap(Math, 'random', 'CHANCE', 'Math.random()', () => 0.5)
  for (const owner of [crypto, globalThis.crypto]) {
    trap(owner, 'randomUUID', 'CHANCE', 'crypto.randomUUID()', id)
    trap(owner, 'getRandomValues', 'CHANCE', 'crypto.getRandomValues()', (array) => array)
  }
  trap(crypto, 'randomBytes', 'CHANCE', 'crypto.randomBytes()', (size) => Buffer.alloc(Number(size)))
  trap(crypto, 'randomInt', 'CHANCE', 'crypto.randomInt()', (least, most) => (most === undefined ? 0 : least))
  trap(globalThis, 'fetch', 'SIDE_EFFECT', 'fetch()', never)
  trap(globalThis, 'setTimeout', 'SIDE_EFFECT', 'setTimeout()', () => real.setTimeout(() => undefined, 0))
  trap(globalThis, 'setInterval', 'SIDE_EFFECT', 'setInterval()', () => real.setTimeout(() => undefined, 0))
  trap(globalThis, 'setImmediate', 'SIDE_EFFECT', 'setImmediate()', () => real.setImmediate(() => undefined))
  const load = createRequire(import.meta.url)
  for (const name of ['node:http', 'node:https']) {
    for (const call of ['request', 'get']) trap(load(name), call, 'SIDE_EFFECT', `${call}() of ${name}`, refused(name))
  }
  const fs = process.getBuiltinModule('node:fs')
  for (const call of ['writeFileSync', 'appendFileSync', 'writeFile', 'appendFile'])
    trap(fs, call, 'SIDE_EFFECT', `${call}()`, () => undefined)
  for (const call of ['writeFile', 'appendFile'])
    trap(fs.promises, call, 'SIDE_EFFECT', `${call}()`, () => Promise.resolve())
  for (const call of ['execSync', 'spawnSync', 'exec', 'spawn'])
    trap(process.getBuiltinModule('node:child_process'), call, 'SIDE_EFFECT', `${call}()`, refused(call))
  const quiet = (['log', 'info', 'debug', 'warn', 'error'] as const).map((name) => [name, console[name]] as const)
  for (const [name, print] of quiet) console[name] = (...args) => (inFlow() ? undefined : print.apply(console, args))
  undo.push(() => {
    for (const [name, print] of quiet) console[name] = print
  })
  syncBuiltinESMExports()
  try {
    return await work()
  } finally {
    for (const back of undo.reverse()) back()
    syncBuiltinESMExports()
  }
}

function refused(what: string): Any {
  return () => {
    throw new Error(`${what} is not for a flow`)
  }
}
