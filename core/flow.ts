import { Observable, Subscriber } from 'rxjs'
import { Calls } from './calls.ts'
import { ElementMeta } from './element.ts'
import { MillraceError, messageOf } from './errors.ts'
import { Fan } from './fan.ts'
import { type AsyncWork, type OperatorContext, type OperatorHandlers, splitKey } from './operator.ts'
import type { Plan, PlanNode } from './plan.ts'
import type { Runtime } from './runtime.ts'
import { enterTask } from './standalone.ts'
import type { Timer } from './state.ts'

/** Timers as the flow drives them. */
export interface DueTimers {
  peek(): Timer | undefined
  take(): Timer
}

/** What a flow needs of its task. */
export interface FlowHost {
  readonly runtime: Runtime
  /** The pieces of state of an operator, by their names in its definition; made once. */
  state(node: PlanNode, clock: { watermark: number }): Record<string, unknown>
  /** Takes a row for an output; a throw is the record's. */
  row(output: number, value: unknown, meta: ElementMeta): void
  count(what: 'duplicates' | 'late'): void
  /** Told of each key that an operator gave. */
  rekeyed?(node: PlanNode, key: string): void
}

/** An element that failed, by what tells it from the others of its epoch. */
export interface Failure {
  readonly record: number | undefined
  readonly timer: string | undefined
  readonly where: string
  readonly error: unknown
}

interface Owner {
  readonly node: PlanNode
  readonly piece: string
  readonly clock: 'event' | 'processing'
  readonly timers: DueTimers
  readonly handlers: OperatorHandlers<unknown>
  /** Whether its timers' keys hold the stream's key and a finer one. */
  readonly finer: boolean
}

interface Entry {
  readonly entrance: Fan
  readonly level: number
  /** The element's, or what `keyBy` made of it. */
  readonly key: string
  value: unknown
  state: 'ready' | 'waiting'
}

interface Slot {
  readonly meta: ElementMeta
  readonly watermark: number
  readonly element: Element
  readonly entries: Entry[]
  readonly ordered: boolean
}

/** What is being worked on: a record of the epoch, or a timer. */
interface Element {
  readonly record: number | undefined
  readonly timer: string | undefined
}

/** A synchronous part of the flow: its own clock, element and timers. */
class Segment {
  readonly clock = { watermark: Number.NEGATIVE_INFINITY }
  readonly meta = new ElementMeta()
  readonly owners: Owner[] = []
  /** What waits to enter this segment, oldest first. */
  queue: Slot[] = []
  /** How many of the queue have been taken; they are cut off in one go, because that moves all that is behind them. */
  taken = 0
  /** What the element in work sends to the next segment. */
  slot: Slot | undefined
  queuedWatermark = Number.NEGATIVE_INFINITY
  /** The watermark it is moving to: reached when the timers before it have fired. */
  target = Number.NEGATIVE_INFINITY
}

/**
 * A pipeline's graph at work in one task. Each epoch subscribes it anew, as finite Observables; what must last between
 * epochs is in the operators' state.
 */
export class Flow {
  readonly segments: readonly Segment[]
  readonly synchronous: boolean
  private readonly plan: Plan
  private readonly host: FlowHost
  private readonly operators = new Map<
    number,
    { handlers: OperatorHandlers<unknown>; output: { to: Subscriber<unknown> | undefined }; sides: Map<string, Fan> }
  >()
  /** Nodes whose stream is listened to once, for all that want it. */
  private readonly shared: ReadonlySet<number>
  private heads: Fan[] = []
  private entrances: { level: number; fan: Fan }[] = []
  private ends: Subscriber<unknown>[] = []
  private phase: 'idle' | 'pushing' | 'between' | 'completing' = 'idle'
  /** The operator that is at work, for messages. */
  private at = ''
  private failure: { error: unknown; where: string } | undefined
  private broken: MillraceError | undefined
  /** Calls of this run of the epoch, by their operator. */
  private readonly calls = new Map<number, Calls>()
  private wake: (() => void) | undefined

  constructor(plan: Plan, host: FlowHost) {
    this.plan = plan
    this.host = host
    this.segments = Array.from({ length: plan.levels }, () => new Segment())
    this.synchronous = plan.levels === 1
    this.shared = sharedOf(plan)
    for (const node of plan.nodes) this.start(node)
  }

  /** Subscribes the graph for an epoch, or anew after a failure. */
  begin(): void {
    this.abandon()
    this.phase = 'between'
    this.inTask(() => this.connect())
  }

  /** Drops what is subscribed and under way: answers of asynchronous calls are no longer heard. */
  abandon(): void {
    this.phase = 'idle'
    for (const calls of this.calls.values()) calls.abandon()
    this.calls.clear()
    for (const end of this.ends) end.unsubscribe()
    this.ends = []
    this.failure = undefined
    for (const segment of this.segments) {
      segment.queue = []
      segment.taken = 0
      segment.slot = undefined
      segment.queuedWatermark = segment.clock.watermark
    }
  }

  /** Pushes a record into the first segment, whose `meta` is set. @throws what an operator or an encoder threw */
  push(source: number, value: unknown, record: number): void {
    this.enter(0, { record, timer: undefined }, () => this.heads[source]!.next(value))
  }

  /** The next timer of a segment that is due before `watermark`, or by its stamp; undefined when there is none. */
  due(level: number, watermark: number, stamp: number): Owner | undefined {
    let first: Owner | undefined
    let time = Number.POSITIVE_INFINITY
    for (const owner of this.segments[level]!.owners) {
      const timer = owner.timers.peek()
      if (timer === undefined) continue
      const isDue = owner.clock === 'event' ? timer.time < watermark : timer.time <= stamp
      if (isDue && timer.time < time) {
        first = owner
        time = timer.time
      }
    }
    return first
  }

  /** The time of the earliest timer on a clock, over all segments. */
  earliest(clock: 'event' | 'processing'): number {
    let time = Number.POSITIVE_INFINITY
    for (const segment of this.segments) {
      for (const owner of segment.owners) {
        if (owner.clock === clock) time = Math.min(time, owner.timers.peek()?.time ?? Number.POSITIVE_INFINITY)
      }
    }
    return time
  }

  /** Fires the timer that `due` found. @throws what the operator threw */
  fire(level: number, owner: Owner, stamp: number): void {
    const segment = this.segments[level]!
    const timer = owner.timers.take()
    segment.meta.timer(owner.node.name, timer.key, owner.finer ? splitKey(timer.key).key : timer.key, timer.time, stamp)
    if (owner.clock === 'event' && timer.time > segment.clock.watermark) segment.clock.watermark = timer.time
    const element = { record: undefined, timer: timerName(owner, timer) }
    this.enter(level, element, () => {
      this.at = owner.node.name
      owner.handlers.due!(timer, segment.meta, owner.piece)
    })
  }

  /** Sends the watermark on to the next segment, when an element that moved it had nothing else to send. */
  mark(level: number): void {
    const segment = this.segments[level]!
    if (level + 1 < this.plan.levels && segment.clock.watermark > segment.queuedWatermark) {
      this.enter(level, { record: undefined, timer: undefined }, () => undefined)
    }
  }

  /**
   * Ends the epoch's input and waits until all work has drained: the flow's completion.
   *
   * @param excluded timers that failed in an earlier run of this epoch
   * @returns the failures of the asynchronous segments; a synchronous flow has none left here
   */
  async complete(excluded: ReadonlySet<string>, failures: Failure[]): Promise<void> {
    await this.drain(excluded, failures)
    this.finish(failures)
  }

  /** Completes a flow whose work has drained. @throws MillraceError FLOW_BROKE_RULES */
  finish(failures: readonly Failure[] = []): void {
    this.phase = 'completing'
    for (const head of this.heads) head.complete()
    for (const { fan } of this.entrances) fan.complete()
    this.phase = 'idle'
    if (this.broken) throw this.broken
    if (failures.length === 0 && this.ends.some((end) => !end.closed)) {
      throw new MillraceError(
        'FLOW_BROKE_RULES',
        `pipeline "${this.plan.pipeline}": an operator did not complete when its input did: work that it left open would be lost. Use mapAsync for asynchronous work`,
      )
    }
    this.abandon()
  }

  /** What failed last, with the operator's name. */
  takeFailure(error: unknown): { error: unknown; where: string } {
    const where = this.failure?.where ?? this.at
    this.failure = undefined
    return { error, where }
  }

  private enter(level: number, element: Element, work: () => void): void {
    const segment = this.segments[level]!
    const next = level + 1 < this.plan.levels
    segment.slot = next
      ? { meta: segment.meta.snapshot(), watermark: segment.clock.watermark, element, entries: [], ordered: true }
      : undefined
    this.phase = 'pushing'
    this.inTask(work)
    this.phase = 'between'
    if (this.broken) throw this.broken
    if (this.failure) throw this.failure.error
    const slot = segment.slot
    segment.slot = undefined
    if (slot && (slot.entries.length > 0 || slot.watermark > segment.queuedWatermark)) {
      segment.queuedWatermark = slot.watermark
      this.segments[level + 1]!.queue.push(slot)
    }
  }

  /** Works so that an operator which would keep its state outside the task breaks the flow (engine rule 8). */
  private inTask(work: () => void): void {
    const before = enterTask(this.breaks)
    try {
      work()
    } finally {
      enterTask(before)
    }
  }

  private readonly breaks = (error: MillraceError) => {
    this.broken ??= error
  }

  /** Takes the queues between the segments to their end, level by level as answers come. */
  private async drain(excluded: ReadonlySet<string>, failures: Failure[]): Promise<void> {
    for (;;) {
      let open = false
      let moved = false
      for (let level = 1; level < this.plan.levels; level++) {
        const segment = this.segments[level]!
        const { queue } = segment
        while (segment.taken < queue.length && queue[segment.taken]!.entries.every(isReady)) {
          this.passOn(level, queue[segment.taken++]!, excluded, failures)
          moved = true
        }
        if (segment.taken * 2 >= queue.length) {
          queue.splice(0, segment.taken)
          segment.taken = 0
        }
        open ||= queue.length > 0
      }
      if (!open) return
      if (!moved) {
        const { promise, resolve } = Promise.withResolvers<void>()
        this.wake = resolve
        await promise
      }
    }
  }

  /** Lets one slot into its segment: the timers that its watermark makes due, then its values. */
  private passOn(level: number, slot: Slot, excluded: ReadonlySet<string>, failures: Failure[]): void {
    const segment = this.segments[level]!
    const attempt = (element: Element, work: () => void) => {
      try {
        work()
      } catch (error) {
        if (error === this.broken) throw error
        failures.push({ ...element, ...this.takeFailure(error) })
      }
    }
    for (
      let owner = this.due(level, slot.watermark, slot.meta.stamp);
      owner;
      owner = this.due(level, slot.watermark, slot.meta.stamp)
    ) {
      const name = timerName(owner, owner.timers.peek()!)
      if (excluded.has(name)) owner.timers.take()
      else {
        const firing = owner
        attempt({ record: undefined, timer: name }, () => this.fire(level, firing, slot.meta.stamp))
      }
    }
    segment.clock.watermark = Math.max(segment.clock.watermark, slot.watermark)
    segment.meta.copy(slot.meta)
    attempt(slot.element, () =>
      this.enter(level, slot.element, () => {
        for (const entry of slot.entries) {
          if (entry.level === level) rekeyed(segment.meta, entry.key, () => entry.entrance.next(entry.value))
          else segment.slot?.entries.push(entry)
        }
      }),
    )
  }

  private start(node: PlanNode): void {
    if (node.node.kind !== 'operator') return
    const { definition } = node.node
    const segment = this.segments[node.level]!
    const output: { to: Subscriber<unknown> | undefined } = { to: undefined }
    const sides = new Map<string, Fan>()
    if (definition.work) {
      this.operators.set(node.id, {
        handlers: { next: (value) => this.ask(node, definition.work!, value) },
        output,
        sides,
      })
      return
    }
    const state = this.host.state(node, segment.clock)
    // what goes to another partition may come from any
    const leaves = definition.channel !== undefined
    const context: OperatorContext<unknown> = {
      name: node.name,
      state: state as OperatorContext<unknown>['state'],
      clock: segment.clock,
      emit: (value, key) => {
        if (key === undefined) output.to!.next(value)
        else {
          if (!leaves) this.host.rekeyed?.(node, key)
          rekeyed(segment.meta, key, () => output.to!.next(value))
        }
      },
      side: (name, value) => sides.get(name)?.next(value),
      count: (what) => this.host.count(what),
    }
    const handlers = definition.start!(context)
    this.operators.set(node.id, { handlers, output, sides })
    for (const [piece, declaration] of Object.entries(definition.state ?? {})) {
      if (declaration.kind !== 'timers') continue
      segment.owners.push({
        node,
        piece,
        clock: declaration.clock,
        timers: state[piece] as DueTimers,
        handlers,
        finer: definition.keyed === 'by',
      })
    }
  }

  /** Asks for an asynchronous answer, whose value waits in the next segment's queue at its element's place. */
  private ask(node: PlanNode, work: AsyncWork<unknown, unknown>, value: unknown): void {
    const segment = this.segments[node.level]!
    const { key } = segment.meta
    const entry: Entry = {
      entrance: this.entranceOf(node),
      level: node.outLevel,
      key,
      value: undefined,
      state: 'waiting',
    }
    const slot = segment.slot!
    slot.entries.push(entry)
    const calls = this.calls.get(node.id) ?? new Calls(node.name, work, this.host.runtime)
    this.calls.set(node.id, calls)
    calls.ask(value, slot.meta, key, (answer) => {
      entry.state = 'ready'
      if ('value' in answer) entry.value = answer.value
      else {
        this.asyncFailures.push({ ...slot.element, error: answer.error, where: node.name })
        slot.entries.splice(slot.entries.indexOf(entry), 1)
      }
      this.wake?.()
    })
  }

  readonly asyncFailures: Failure[] = []

  private entranceOf(node: PlanNode): Fan {
    return this.outputs.get(node.id)!
  }

  private outputs = new Map<number, Fan>()

  private connect(): void {
    this.outputs = new Map()
    this.entrances = []
    this.heads = []
    const { plan } = this
    const streams = new Map<number, Observable<unknown>>()
    const connections: (() => void)[] = []

    /** The stream of a node as a consumer in a segment sees it. */
    const at = (id: number, level: number): Observable<unknown> => {
      const node = plan.nodes[id]!
      const stream = streams.get(id)!
      if (node.outLevel === level) return stream
      const fan = new Fan()
      this.entrances.push({ level, fan })
      const from = this.segments[node.outLevel]!
      connections.push(() => {
        const crossing = new Crossing((value) =>
          from.slot!.entries.push({ entrance: fan, level, key: from.meta.key, value, state: 'ready' }),
        )
        this.ends.push(crossing)
        stream.subscribe(crossing)
      })
      return fan.stream
    }

    for (const node of plan.nodes) {
      let stream: Observable<unknown>
      const source = node.node
      if (source.kind === 'source') {
        const head = new Fan()
        this.heads.push(head)
        streams.set(node.id, head.stream)
        continue
      }
      if (source.kind === 'side') {
        const fan = new Fan()
        this.operators.get(node.inputs[0]!)!.sides.set(source.name, fan)
        this.entrances.push({ level: node.level, fan })
        streams.set(node.id, fan.stream)
        continue
      }
      const inputs = node.inputs.map((id) => at(id, node.level))
      if (source.kind === 'merge') stream = mergeAll(inputs, source.names)
      else if (source.kind === 'foreign')
        stream = this.probe(node, source.run as (s: Observable<unknown>) => Observable<unknown>, inputs[0]!)
      else {
        const made = this.operators.get(node.id)!
        if (source.definition.work) {
          const entrance = new Fan()
          this.outputs.set(node.id, entrance)
          this.entrances.push({ level: node.outLevel, fan: entrance })
          const asking = new Crossing((value) => {
            this.at = node.name
            made.handlers.next(value, this.segments[node.level]!.meta)
          })
          this.ends.push(asking)
          const [input] = inputs
          connections.push(() => input!.subscribe(asking))
          streams.set(node.id, entrance.stream)
          continue
        }
        stream = this.bound(node, made, inputs)
      }
      if (this.shared.has(node.id)) {
        const shared = new Fan()
        const input = stream
        connections.push(() => shared.listen(input))
        stream = shared.stream
      }
      streams.set(node.id, stream)
    }
    plan.outputs.forEach((output, index) => {
      const meta = this.segments[output.level]!.meta
      const end = new Crossing((value) => {
        this.at = output.name
        this.host.row(index, value, meta)
      })
      end.failed = (error) => this.fail(error)
      this.ends.push(end)
      at(output.input, output.level).subscribe(end)
    })
    for (const connect of connections.reverse()) connect()
    for (const end of this.ends) (end as Crossing).failed ??= (error) => this.fail(error)
  }

  private fail(error: unknown): void {
    this.failure ??= { error, where: this.at }
  }

  private bound(
    node: PlanNode,
    made: { handlers: OperatorHandlers<unknown>; output: { to: Subscriber<unknown> | undefined } },
    inputs: Observable<unknown>[],
  ): Observable<unknown> {
    const { meta } = this.segments[node.level]!
    const { handlers, output } = made
    return new Observable((to) => {
      output.to = to
      let open = inputs.length
      const ended = () => {
        if (--open === 0) to.complete()
      }
      inputs.forEach((input, place) => {
        const take = place === 0 ? handlers.next : handlers.right!
        const taker = new Taker(
          to,
          (value) => {
            this.at = node.name
            take(value, meta)
          },
          ended,
        )
        input.subscribe(taker)
      })
    })
  }

  /** Holds an RxJS operator to the rules (engine rule 8): what it does between two epochs is lost, so it may do nothing there. */
  private probe(
    node: PlanNode,
    run: (source: Observable<unknown>) => Observable<unknown>,
    input: Observable<unknown>,
  ): Observable<unknown> {
    const breaks = (what: string, instead: string) => {
      this.broken ??= new MillraceError(
        'FLOW_BROKE_RULES',
        `pipeline "${this.plan.pipeline}": ${node.name} ${what}: ${instead}`,
      )
    }
    let subscribed = 0
    const before = new Observable<unknown>((to) => {
      if (subscribed++ > 0)
        breaks(
          'subscribed to its input a second time',
          'records would be lost or doubled. Leave retries to the engine, and use mapAsync for calls that may fail',
        )
      const taker = new Taker(
        to,
        (value) => {
          this.at = node.name
          to.next(value)
        },
        () => to.complete(),
      )
      to.add(() => {
        if (this.phase === 'pushing' && !this.failure)
          breaks(
            'stopped listening before its input ended',
            'later records would be lost. Use filter, or dedup and scan of millrace/operators',
          )
      })
      input.subscribe(taker)
    })
    return new Observable((to) => {
      const probe = new Taker(
        to,
        (value) => {
          if (this.phase !== 'pushing') {
            breaks(
              this.phase === 'completing' ? 'emitted when its input ended' : 'emitted when no record was being pushed',
              'what it keeps between records is lost when an epoch ends. Use scan, absence or mapAsync of millrace/operators',
            )
            return
          }
          to.next(value)
        },
        () => {
          if (this.phase === 'pushing' && !this.failure)
            breaks(
              'ended before its input did',
              'later records would be lost. Use filter of millrace/operators, and let errors go to the dead letters',
            )
          to.complete()
        },
      )
      probe.failed = (error) => {
        this.at = node.name
        this.fail(error)
      }
      run(before).subscribe(probe)
    })
  }
}

/** Pushes with another key, which is the element's again afterwards. */
function rekeyed(meta: ElementMeta, key: string, push: () => void): void {
  const before = meta.key
  meta.key = key
  try {
    push()
  } finally {
    meta.key = before
  }
}

const isReady = (entry: Entry): boolean => entry.state === 'ready'

function timerName(owner: Owner, timer: Timer): string {
  return `${owner.node.name}/${owner.piece}/${timer.time}/${timer.key}`
}

/** A subscriber whose handler may throw to its caller, unlike RxJS's own, which would end the stream. */
class Taker extends Subscriber<unknown> {
  failed: ((error: unknown) => void) | undefined
  private readonly take: (value: unknown) => void
  private readonly ended: () => void

  constructor(to: Subscriber<unknown>, take: (value: unknown) => void, ended: () => void) {
    super(to)
    this.take = take
    this.ended = ended
  }

  protected override _next(value: unknown): void {
    this.take(value)
  }

  protected override _error(error: unknown): void {
    if (this.failed) this.failed(error)
    else this.destination.error(error)
  }

  protected override _complete(): void {
    this.ended()
    this.unsubscribe()
  }
}

/** The end of a branch within a segment. */
class Crossing extends Subscriber<unknown> {
  failed: ((error: unknown) => void) | undefined
  private readonly take: (value: unknown) => void

  constructor(take: (value: unknown) => void) {
    super()
    this.take = take
  }

  protected override _next(value: unknown): void {
    this.take(value)
  }

  protected override _error(error: unknown): void {
    this.failed?.(error)
  }

  protected override _complete(): void {
    this.unsubscribe()
  }
}

function mergeAll(inputs: readonly Observable<unknown>[], names: readonly string[] | undefined): Observable<unknown> {
  return new Observable((to) => {
    let open = inputs.length
    inputs.forEach((input, place) => {
      const from = names?.[place]
      const take =
        from === undefined ? (value: unknown) => to.next(value) : (value: unknown) => to.next({ from, value })
      input.subscribe(
        new Taker(to, take, () => {
          if (--open === 0) to.complete()
        }),
      )
    })
  })
}

/** The text of what failed, for a dead letter. */
export function failureText(error: unknown): { code: string; reason: string } {
  return { code: error instanceof MillraceError ? error.code : 'OPERATOR_THREW', reason: messageOf(error) }
}

/** Nodes that several others want; and those that must run even if nobody wants more of them than what they lay aside. */
function sharedOf({ nodes, outputs }: Plan): ReadonlySet<number> {
  const consumers = [...nodes.flatMap(({ inputs }) => inputs), ...outputs.map(({ input }) => input)]
  const several = consumers.filter((id, i) => consumers.indexOf(id) < i)
  return new Set([...several, ...nodes.flatMap(({ node, inputs }) => (node.kind === 'side' ? inputs : []))])
}
