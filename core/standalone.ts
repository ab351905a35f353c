import { asyncScheduler, Observable, type Subscriber, type Subscription } from 'rxjs'
import { ElementMeta } from './element.ts'
import { MillraceError } from './errors.ts'
import type { DueTimers } from './flow.ts'
import { createJournal } from './journal.ts'
import { createState } from './keyed-state.ts'
import {
  type Operator,
  type OperatorContext,
  type OperatorDefinition,
  type StateShape,
  splitKey,
  tie,
} from './operator.ts'

/** The event time of the value that is being pushed outside a pipeline, and the watermark that goes with it. */
interface EventTime {
  readonly time: number
  readonly watermark: number
}

/** What surrounds the operator at work: an event time outside a pipeline, a flow inside one. */
let eventTime: EventTime | undefined
let inTask: ((error: MillraceError) => void) | undefined

/** Records between two times that state outside a pipeline frees what is dead. */
const SWEEP = 1_000

/** Pushes a value with its event time, so that operators downstream see it. */
export function withEventTime(time: EventTime | undefined, push: () => void): void {
  const before = eventTime
  eventTime = time
  try {
    push()
  } finally {
    eventTime = before
  }
}

/** The event time of the value that is being pushed, where `eventTime` stands upstream. */
export function currentEventTime(): EventTime | undefined {
  return eventTime
}

/**
 * Says whose flow is at work from now on, and gives who was before: an operator with state that is subscribed meanwhile
 * could only keep it in memory, so it breaks the flow instead (engine rule 8).
 */
export function enterTask(broke: ((error: MillraceError) => void) | undefined): typeof inTask {
  const before = inTask
  inTask = broke
  return before
}

/**
 * Makes an operator of its definition: the engine runs the definition; on a plain Observable it runs here, with its
 * state in memory. There, time is what `eventTime` gave, or the scheduler's; on completion the watermark is infinite,
 * and timers fire; an error passes through, and state goes with the subscription.
 */
export function operate<T, R, D extends StateShape, S = {}>(
  definition: OperatorDefinition<T, R, D>,
): Operator<T, R, S> {
  return tie<T, R, S>(
    (source) => new Observable((to) => subscribe(definition as OperatorDefinition<T, R>, source, to)),
    definition,
  )
}

function subscribe<T, R>(definition: OperatorDefinition<T, R>, source: Observable<T>, to: Subscriber<R>): Subscription {
  const name = definition.name ?? definition.kind
  const shape = definition.state ?? {}
  if (inTask && Object.keys(shape).length > 0) {
    const error = new MillraceError(
      'FLOW_BROKE_RULES',
      `${name}: an operator that keeps state was subscribed inside another one, where the engine cannot keep its state: put it into the .pipe of a stream`,
    )
    inTask(error)
    throw error
  }
  if (definition.keyed === 'stream') {
    throw new MillraceError(
      'BAD_OPTION',
      `${definition.kind} "${name}": by is needed outside a pipeline, where no stream gives a key: it must be a function of the record, got undefined`,
    )
  }
  const clock = { watermark: Number.NEGATIVE_INFINITY }
  const meta = new ElementMeta()
  const journal = createJournal()
  const state = Object.entries(shape).map(([piece, declaration]) => ({
    piece,
    declaration,
    kept: createState(declaration, { clock, journal, secret: new Uint8Array(32) }),
  }))
  const timers = state.flatMap(({ piece, declaration, kept }) =>
    declaration.kind === 'timers'
      ? [{ piece, event: declaration.clock === 'event', due: kept as unknown as DueTimers }]
      : [],
  )
  const first = () =>
    timers.reduce(
      (time, { due }) => Math.min(time, due.peek()?.time ?? Number.POSITIVE_INFINITY),
      Number.POSITIVE_INFINITY,
    )
  /** Whether records have event times of their own: then these move the watermark, and no clock does. */
  let timed = false
  let alarm: Subscription | undefined
  let position = 0
  let version = 0
  meta.versions = { next: (stamp) => (version = Math.max(version + 1, stamp * 1024)) }

  const context: OperatorContext<R> = {
    name,
    state: Object.fromEntries(state.map(({ piece, kept }) => [piece, kept])) as unknown as OperatorContext<R>['state'],
    clock,
    emit: (value) =>
      withEventTime(timed ? { time: meta.time, watermark: clock.watermark } : undefined, () => to.next(value)),
    side: () => undefined,
    count: () => undefined,
  }
  const handlers = definition.start!(context)

  const guarded = (work: () => void) => {
    try {
      work()
    } catch (error) {
      to.error(error)
    }
  }
  const fireUntil = (watermark: number, now: number) => {
    while (!to.closed) {
      const due = timers.filter(
        ({ event, due }) =>
          due.peek() !== undefined && (event ? due.peek()!.time < watermark : due.peek()!.time <= now),
      )
      const next = due.sort((a, b) => a.due.peek()!.time - b.due.peek()!.time)[0]
      if (!next) break
      const timer = next.due.take()
      meta.timer(name, timer.key, definition.keyed === 'by' ? splitKey(timer.key).key : timer.key, timer.time, now)
      if (next.event) clock.watermark = Math.max(clock.watermark, timer.time)
      guarded(() => handlers.due!(timer, meta, next.piece))
    }
    clock.watermark = Math.max(clock.watermark, watermark)
  }
  /** Without event times, the scheduler's clock is the time, and it must be there when a timer is due. */
  const wind = () => {
    alarm?.unsubscribe()
    const time = first()
    if (time === Number.POSITIVE_INFINITY || timed || to.closed) return
    alarm = asyncScheduler.schedule(
      () => {
        const now = asyncScheduler.now()
        fireUntil(now + 1, now)
        wind()
      },
      Math.max(0, time - asyncScheduler.now()),
    )
  }
  /** What outlives a record is never taken back here: an error ends the stream, and its state. */
  const settle = () => {
    journal.clear()
    if (position % SWEEP === 0) for (const { kept } of state) kept.sealed()
  }

  to.add(() => alarm?.unsubscribe())
  const right = definition.right as Observable<unknown> | undefined
  if (right !== undefined && typeof right.subscribe !== 'function')
    throw new MillraceError(
      'BAD_OPTION',
      `${definition.kind} "${name}": outside a pipeline its second input must be an Observable, and not a stream`,
    )
  let open = right === undefined ? 1 : 2
  const taking = (take: (value: any, meta: ElementMeta) => void) => ({
    next(value: unknown) {
      const now = asyncScheduler.now()
      const given = eventTime
      timed ||= given !== undefined
      fireUntil(given?.watermark ?? now, now)
      if (to.closed) return
      meta.record(name, 0, position++, now)
      meta.key = ''
      meta.time = given?.time ?? now
      guarded(() => take(value, meta))
      settle()
      if (timers.length > 0) wind()
    },
    error: (error: unknown) => to.error(error),
    complete() {
      if (--open > 0) return
      alarm?.unsubscribe()
      fireUntil(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
      to.complete()
    },
  })
  const both = right?.subscribe(taking((value, its) => handlers.right!(value, its)))
  if (both) to.add(both)
  return source.subscribe(taking((value, its) => handlers.next(value, its)))
}
