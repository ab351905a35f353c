import type { Runtime } from '../../core/runtime.ts'
import { type Chance, chance } from './chance.ts'

/** What happens in a simulated world, one thing after the other, on a clock that jumps from one to the next. */
export interface World {
  readonly random: Chance
  readonly now: number
  /** How far the clock that workers see is off, milliseconds. */
  skew: number
  /** Calls back after so many simulated milliseconds. */
  after(ms: number, call: () => void): void
  /**
   * Whether a fault happens here. Each has a number, so that a schedule can be run again without some of them.
   *
   * @param kind what it is, for the trace
   */
  fault(kind: string, probability: number): boolean
  /** Notes what happens, for a person who reads the schedule. */
  note(text: string): void
  /** Somebody reads the notes. */
  readonly traced: boolean
  /** No faults from here on. */
  calm: boolean
  readonly faults: readonly { readonly number: number; readonly kind: string }[]
  /** Lets the next thing happen; false when nothing is left. */
  step(): Promise<boolean>
  name(): string
}

export interface WorldOptions {
  readonly seed: number
  /** Numbers of faults that do not happen. */
  readonly without?: ReadonlySet<number>
  readonly trace?: ((text: string) => void) | undefined
}

interface Event {
  readonly at: number
  readonly order: number
  readonly call: () => void
}

export const START = 1_700_000_000_000

export function createWorld({ seed, without, trace }: WorldOptions): World {
  const random = chance(seed)
  const events: Event[] = []
  const faults: { number: number; kind: string }[] = []
  let order = 0
  let drawn = 0
  let names = 0

  function later(a: Event, b: Event): boolean {
    return a.at > b.at || (a.at === b.at && a.order > b.order)
  }

  function push(event: Event): void {
    let at = events.length
    events.push(event)
    for (let parent = (at - 1) >> 1; at > 0 && later(events[parent]!, event); parent = (at - 1) >> 1) {
      events[at] = events[parent]!
      events[parent] = event
      at = parent
    }
  }

  function pop(): Event | undefined {
    const first = events[0]
    const last = events.pop()
    if (first === undefined || last === undefined || events.length === 0) return first
    let at = 0
    for (let child = 1; child < events.length; child = 2 * at + 1) {
      if (child + 1 < events.length && later(events[child]!, events[child + 1]!)) child++
      if (!later(last, events[child]!)) break
      events[at] = events[child]!
      at = child
    }
    events[at] = last
    return first
  }

  const world = {
    random,
    now: START,
    skew: 0,
    calm: false,
    faults,
    traced: trace !== undefined,
    after(ms: number, call: () => void): void {
      push({ at: world.now + ms, order: order++, call })
    },
    fault(kind: string, probability: number): boolean {
      // drawn whether or not it may happen, so that leaving one out changes nothing before it
      const happens = random.yes(probability)
      if (!happens || world.calm) return false
      const number = drawn++
      if (without?.has(number)) return false
      faults.push({ number, kind })
      world.note(`fault ${number}: ${kind}`)
      return true
    },
    note(text: string): void {
      trace?.(`${(world.now - START).toFixed(0).padStart(9)} ms  ${text}`)
    },
    async step(): Promise<boolean> {
      await rest()
      const event = pop()
      if (event === undefined) return false
      world.now = Math.max(world.now, event.at)
      event.call()
      return true
    },
    name: (): string => `${(++names).toString(16).padStart(8, '0')}-${seed.toString(16).padStart(8, '0')}`,
  }
  return world
}

/** Lets all promises that wait for nothing else come to rest. */
function rest(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}

/** The time between a start and its end. When it is over, nothing that it asked for ever settles. */
export interface Life {
  readonly number: number
  readonly runtime: Runtime
  readonly over: boolean
  /** Until then it is stopped, as by SIGSTOP: what it waits for comes to it afterwards. */
  stoppedUntil: number
  /** An answer that comes after so many simulated milliseconds, if the life lasts. */
  answer<T>(ms: number, give: () => T | Promise<T>): Promise<T>
  /** Resolves when something comes from outside after so many simulated milliseconds, or the signal aborts. */
  comes(ms: number, signal: AbortSignal): Promise<void>
  /** From here on it is over, and what waited in it is freed. */
  end(): void
}

export function createLife(world: World, number: number): Life {
  /** What is to be called. The world keeps each until its time has come, and must not keep what a life had in work so long. */
  const due = new Set<{ call: () => void }>()
  /** Calls back while it lives and is not stopped; after a stop alarms come first, and then what came from outside. */
  const after = (ms: number, call: () => void, alarm = false) => {
    const one = { call: life.over ? nothing : call }
    if (!life.over) due.add(one)
    world.after(ms, function come() {
      if (life.over) return
      if (world.now < life.stoppedUntil) {
        world.after(life.stoppedUntil - world.now + (alarm ? 0 : 1), come)
        return
      }
      due.delete(one)
      one.call()
    })
    return one
  }
  const wait = (ms: number, signal: AbortSignal | undefined, alarm: boolean) =>
    new Promise<void>((resolve) => {
      if (life.over) return
      if (signal?.aborted) return resolve()
      const wake = () => {
        signal?.removeEventListener('abort', wake)
        one.call = nothing
        if (!life.over) resolve()
      }
      signal?.addEventListener('abort', wake, { once: true })
      const one = after(ms, wake, alarm)
    })
  const life: Life & { over: boolean } = {
    number,
    over: false,
    stoppedUntil: 0,
    answer: (ms, give) =>
      new Promise((resolve, reject) => {
        after(ms, () => {
          try {
            const answer = give()
            if (answer instanceof Promise) answer.then(resolve, reject)
            else resolve(answer)
          } catch (error) {
            reject(error)
          }
        })
      }),
    end() {
      life.over = true
      for (const one of due) one.call = nothing
      due.clear()
    },
    comes: (ms, signal) => wait(ms, signal, false),
    runtime: {
      now: () => world.now + world.skew,
      elapsed: () => world.now - START,
      random: () => world.random.next(),
      id: () => world.name(),
      // after a stop, what came from outside does so a moment later
      yield: () => life.answer(2, () => undefined),
      sleep: (ms, signal) => wait(ms, signal, true),
    },
  }
  return life
}

function nothing(): void {}
