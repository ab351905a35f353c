import { asyncScheduler, Observable, type Subscriber, type Subscription } from 'rxjs'
import { ElementMeta } from './element.ts'
import { MillraceError } from './errors.ts'
import { createJournal } from './journal.ts'
import { createState } from './keyed-state.ts'
import type { DueTimers } from './flow.ts'
import { type Operator, type OperatorContext, type OperatorDefinition, type StateShape, tie } from './operator.ts'

/** What an operator outside a pipeline lives by: set by `eventTime` while it pushes, else the scheduler's clock. */
const ambient: { time: number | undefined; watermark: number; inTask: boolean } = { time: undefined, watermark: Number.NEGATIVE_INFINITY, inTask: false }

/** Pushes a value with its event time, so that operators downstream see it. */
export function withEventTime(time: number, watermark: number, push: () => void): void {
  const before = { time: ambient.time, watermark: ambient.watermark }
  ambient.time = time
  ambient.watermark = watermark
  try {
    push()
  } finally {
    ambient.time = before.time
    ambient.watermark = before.watermark
  }
}

/**
 * Makes an operator of its definition: the engine runs the definition; on a plain Observable it runs here, with its
 * state in memory. There, time is what `eventTime` gave, or the scheduler's; on completion the watermark is infinite,
 * and timers fire; an error passes through, and state goes with the subscription.
 */
export function operate<T, R, D extends StateShape, S = {}>(definition: OperatorDefinition<T, R, D>): Operator<T, R, S> {
  return tie<T, R, S>((source) => new Observable((to) => subscribe(definition as OperatorDefinition<T, R>, source, to)), definition)
}

function subscribe<T, R>(definition: OperatorDefinition<T, R>, source: Observable<T>, to: Subscriber<R>): Subscription {
  const name = definition.name ?? definition.kind
  const shape = definition.state ?? {}
  if (ambient.inTask && Object.keys(shape).length > 0) {
    throw new MillraceError('FLOW_BROKE_RULES', `${name}: an operator that keeps state was subscribed inside another one, where the engine cannot keep its state: put it into the .pipe of a stream`)
  }
  const clock = { watermark: Number.NEGATIVE_INFINITY }
  const meta = new ElementMeta()
  const journal = createJournal()
  const state = Object.fromEntries(
    Object.entries(shape).map(([piece, declaration]) => [piece, createState(declaration, { clock, journal, secret: new Uint8Array(32) })]),
  )
  const timers = Object.entries(shape).flatMap(([piece, declaration]) =>
    declaration.kind === 'timers' ? [{ piece, event: declaration.clock === 'event', due: state[piece] as unknown as DueTimers }] : [],
  )
  let alarm: Subscription | undefined
  let version = 0
  meta.versions = { next: (stamp) => (version = Math.max(version + 1, stamp * 1024)) }

  const context: OperatorContext<R> = {
    name,
    state: state as unknown as OperatorContext<R>['state'],
    clock,
    emit: (value) => (ambient.time === undefined ? to.next(value) : withEventTime(meta.time, clock.watermark, () => to.next(value))),
    side: () => undefined,
    count: () => undefined,
  }
  const handlers = definition.start!(context)

  const guarded = (work: () => void) => {
    const mark = journal.mark()
    try {
      work()
      journal.clear()
    } catch (error) {
      journal.undoTo(mark)
      to.error(error)
    }
  }
  const fireUntil = (watermark: number, now: number) => {
    for (;;) {
      if (to.closed) return
      const next = timers
        .filter(({ event, due }) => due.peek() !== undefined && (event ? due.peek()!.time < watermark : due.peek()!.time <= now))
        .sort((a, b) => a.due.peek()!.time - b.due.peek()!.time)[0]
      if (!next) break
      const timer = next.due.take()
      meta.timer(name, timer.key, timer.time, now)
      if (next.event) clock.watermark = Math.max(clock.watermark, timer.time)
      guarded(() => handlers.due!(timer, meta, next.piece))
    }
    clock.watermark = Math.max(clock.watermark, watermark)
  }
  /** Without event times, the scheduler's clock is the time, and it must be there when a timer is due. */
  const wind = () => {
    alarm?.unsubscribe()
    const first = Math.min(...timers.map(({ due }) => due.peek()?.time ?? Number.POSITIVE_INFINITY))
    if (first === Number.POSITIVE_INFINITY || ambient.time !== undefined) return
    alarm = asyncScheduler.schedule(() => {
      const now = asyncScheduler.now()
      fireUntil(now + 1, now)
      wind()
    }, Math.max(0, first - asyncScheduler.now()))
  }

  let position = 0
  const subscription = source.subscribe({
    next(value) {
      const now = asyncScheduler.now()
      const time = ambient.time ?? now
      fireUntil(ambient.time === undefined ? now : ambient.watermark, now)
      if (to.closed) return
      meta.record(name, 0, position++, now)
      meta.key = ''
      meta.time = time
      guarded(() => handlers.next(value, meta))
      if (timers.length > 0) wind()
    },
    error: (error) => to.error(error),
    complete() {
      alarm?.unsubscribe()
      fireUntil(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
      to.complete()
    },
  })
  subscription.add(() => alarm?.unsubscribe())
  return subscription
}

/** Runs a task's synchronous work, during which no operator may fall back to memory (engine rule 8). */
export function insideTask<R>(work: () => R): R {
  const before = ambient.inTask
  ambient.inTask = true
  try {
    return work()
  } finally {
    ambient.inTask = before
  }
}
