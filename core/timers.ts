import { decodeEntries, encodeEntries, type StateEntry } from './state-codec.ts'
import type { Journal, StateStructure, Timer, Timers } from './state.ts'

/** A queue of timers by time, key, and order of registration. */
export function createTimers({ journal }: { readonly journal: Journal }): Timers & StateStructure & { peek(): Timer | undefined; take(): Timer } {
  const heap: Timer[] = []
  /** The registration of each timer that is set; what the heap holds beside is cancelled. */
  const set = new Map<string, number>()
  let changes: { change: StateEntry; timer: Timer; was: boolean }[] = []
  let orders = 0

  const nameOf = (key: string, time: number) => `${time}/${key}`
  const isSet = (timer: Timer) => set.get(nameOf(timer.key, timer.time)) === timer.order
  const note = (put: boolean, timer: Timer) => {
    changes.push({ change: { put, key: timer.key, time: timer.time, value: String(timer.order) }, timer, was: !put })
    journal.note(timers)
  }
  const peek = () => {
    while (heap.length > 0 && !isSet(heap[0]!)) pop(heap)
    return heap[0]
  }

  const timers: Timers & StateStructure & { peek(): Timer | undefined; take(): Timer } = {
    format: 'timers/1',
    set(key, time) {
      const name = nameOf(key, time)
      if (set.has(name)) return
      const timer = { key, time, order: orders++ }
      set.set(name, timer.order)
      push(heap, timer)
      note(true, timer)
    },
    cancel(key, time) {
      const order = set.get(nameOf(key, time))
      if (order === undefined) return
      set.delete(nameOf(key, time))
      note(false, { key, time, order })
    },
    peek,
    take() {
      const timer = peek()!
      pop(heap)
      set.delete(nameOf(timer.key, timer.time))
      note(false, timer)
      return timer
    },
    undo() {
      const { timer, was } = changes.pop()!
      const name = nameOf(timer.key, timer.time)
      if (!was) set.delete(name)
      else {
        set.set(name, timer.order)
        push(heap, timer)
      }
    },
    delta: () => (changes.length === 0 ? undefined : encodeEntries(Number.POSITIVE_INFINITY, changes.map(({ change }) => change))),
    committed() {
      changes = []
    },
    load(blobs) {
      for (const { bytes } of blobs) {
        for (const { put, key, time, value } of decodeEntries(bytes)) {
          const order = Number(value)
          orders = Math.max(orders, order + 1)
          if (put) set.set(nameOf(key, time), order)
          else set.delete(nameOf(key, time))
        }
      }
      for (const [name, order] of set) {
        const slash = name.indexOf('/')
        push(heap, { time: Number(name.slice(0, slash)), key: name.slice(slash + 1), order })
      }
    },
    get size() {
      return set.size
    },
    get memory() {
      return heap.length * 200
    },
  }
  return timers
}

function before(a: Timer, b: Timer): boolean {
  if (a.time !== b.time) return a.time < b.time
  if (a.key !== b.key) return a.key < b.key
  return a.order < b.order
}

function push(heap: Timer[], timer: Timer): void {
  let at = heap.push(timer) - 1
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (!before(timer, heap[parent]!)) break
    heap[at] = heap[parent]!
    at = parent
  }
  heap[at] = timer
}

function pop(heap: Timer[]): void {
  const last = heap.pop()!
  if (heap.length === 0) return
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
    if (!before(heap[child]!, last)) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = last
}
