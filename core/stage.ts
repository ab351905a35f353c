import type { Channels } from './channel.ts'
import { MillraceError, messageOf } from './errors.ts'
import type { Group } from './group.ts'
import { contradiction, testimony } from './group-witness.ts'
import { KeyWatch } from './key-watch.ts'
import { patiently } from './patience.ts'
import type { Plan } from './plan.ts'
import { fitting, schemaOf } from './schema.ts'
import { SinkHost } from './sink-host.ts'
import type { ConnectorContext, Source } from './source.ts'
import type { Store } from './store.ts'
import type { OutputNode } from './stream.ts'
import { type EpochBounds, Task, type TaskSource } from './task.ts'
import type { Turns } from './turns.ts'

export interface StageOptions {
  readonly plan: Plan
  readonly store: Store
  readonly context: ConnectorContext
  readonly maxPoison: number
  readonly untilEnd: boolean
  readonly reopen: boolean
  readonly acceptOlder: boolean
  readonly dropState: readonly string[]
  readonly renameState: Readonly<Record<string, string>>
  readonly toDeadLetters: boolean
  readonly epoch: EpochBounds | undefined
  readonly inputs: Readonly<Record<string, Source>>
  readonly channels: Channels | undefined
  readonly turns: Turns
  /** Of each channel from a stage before, how many tasks feed it, and how many partitions it has. */
  readonly fed: ReadonlyMap<string, Fed>
  /** Where all its tasks keep what their tables have no memory for. @default they have memory for all */
  readonly cache?: { readonly directory: string; readonly bytes: number }
  /** What keeps it from going on. */
  failed(error: unknown): void
}

export interface Fed {
  readonly producers: number
  readonly partitions: number
}

/** What the tasks of a stage have done, those that went to other workers included. */
export interface StageTotals {
  read: number
  deadLetters: number
  duplicates: number
  late: number
  epochs: number
}

/** Milliseconds between two words to a group about how far its partitions have come. */
const RECORD = 1_000
/** Milliseconds before a task that was lost to the store or to another worker is opened again, doubled each time. */
const REOPEN = { first: 500, most: 15_000 }
/** Milliseconds that what is on its way to sinks has for an answer, before its partition goes to another worker. */
const HAND_OVER = 3_000

/**
 * One stage of a pipeline in one worker: its sources and sinks, and the tasks of the partitions that are this worker's:
 * all of them, or those that a group gives it.
 */
export class Stage {
  readonly sources: TaskSource[] = []
  readonly hosts: SinkHost[] = []
  readonly lags: (number | null)[] = []
  /** The tasks that are at work here, by their partition. */
  readonly tasks = new Map<number, Task>()
  /** Tasks that are being given up: what they have done still counts. */
  private readonly ending = new Set<Task>()
  /** Channels that it feeds. */
  readonly feeds = new Map<string, Fed>()
  partitions = 0
  keys: KeyWatch | undefined
  readonly plan: Plan
  private readonly options: StageOptions
  private group: Group | undefined
  private readonly finished = Promise.withResolvers<void>()
  private readonly stopping = new AbortController()
  private readonly closing = new AbortController()
  private readonly past: StageTotals = { read: 0, deadLetters: 0, duplicates: 0, late: 0, epochs: 0 }
  private readonly pastBySource: number[] = []
  /** The work of every task that was launched. */
  private readonly runs = new Map<Task, Promise<void>>()
  private wanted: ReadonlySet<number> | undefined
  /** How many partitions this worker will get when others have given them up. */
  private coming = 0
  /** Of each partition, the last of its openings and closings, which come one after the other. */
  private readonly changes = new Map<number, Promise<void>>()
  private readonly recorded = new Map<number, number>()
  private readonly toRecord = new Set<number>()
  /** Tasks that cannot go on, and are opened anew. */
  private readonly lost = new WeakSet<Task>()
  /** How often in a row a partition's task was opened without committing anything. */
  private readonly tries = new Map<number, number>()
  /** Partitions that will be opened anew in a while. */
  private readonly retrying = new Set<number>()

  constructor(options: StageOptions) {
    this.options = options
    this.plan = options.plan
  }

  /** Connects its sources and sinks. @throws MillraceError */
  async open(): Promise<void> {
    const { plan, context, inputs, untilEnd, fed } = this.options
    const { runtime, logger } = context
    for (const { node, name } of plan.sources) {
      const { options, lateness, channel } = node
      this.lags.push(null)
      this.pastBySource.push(0)
      if (channel) {
        const { producers, partitions } = fed.get(channel.name)!
        const source = this.channels(name).source({ pipeline: plan.pipeline, name: channel.name, partitions })
        const open = await patiently(() => source.open(context, { untilEnd: false }), runtime, logger)
        this.sources.push({ name, open, lateness, producers, key: options.key, time: options.time, validate: asIs })
        continue
      }
      const source = inputs[name] ?? node.source
      const open = await patiently(() => source.open(context, { untilEnd }), runtime, logger)
      const { validate } = options.schema['~standard']
      this.sources.push({
        name,
        open,
        lateness,
        key: options.key,
        time: options.time,
        validate: (value) => fitting(validate(value)),
      })
    }
    this.partitions = this.samePartitions()
    if (this.partitions > 1 && Object.keys(plan.slots).length > 0) this.keys = new KeyWatch(plan.pipeline, logger)
    this.group = this.sameGroup()
    for (const output of plan.outputs) {
      const to = this.sinkOf(output.name, output.node)
      const rowSchema = schemaOf(output.node.input)
      const own = { ...context, output: output.name, ...(rowSchema ? { rowSchema } : {}) } as ConnectorContext
      const open = await patiently(() => to.open(own), runtime, logger)
      this.hosts.push(new SinkHost(output.name, to, open, runtime))
    }
  }

  /** Opens its tasks, or joins its group, which will say which they are. @throws MillraceError */
  async start(): Promise<void> {
    const { group } = this
    if (!group) {
      this.wanted = new Set(Array.from({ length: this.partitions }, (_, partition) => partition))
      for (const partition of this.wanted) await this.openTask(partition)
      return
    }
    const { context, failed } = this.options
    await patiently(
      () =>
        group.join({
          rebalancing: () =>
            context.logger.info({ stage: this.plan.stage }, `${group.name}: partitions are shared out anew`),
          assigned: (partitions, coming) => this.assigned(new Set(partitions), coming),
          failed,
        }),
      context.runtime,
      context.logger,
    )
  }

  /** Begins the work of what `start` opened; resolves when no further epoch will begin. */
  run(): Promise<void> {
    if (!this.group) for (const [partition, task] of this.tasks) this.launch(partition, task)
    return this.finished.promise.then(async () => {
      await Promise.all(this.runs.values())
    })
  }

  /** Takes no further records. */
  stop(): void {
    this.stopping.abort('stopped')
    for (const task of this.tasks.values()) task.stop()
    this.checkFinished()
  }

  /** Partitions that are this worker's, or will be, and whose state is not loaded yet; null before its group has said which they are. */
  get opening(): number | null {
    if (!this.wanted) return null
    return this.coming + [...this.wanted].filter((partition) => !this.tasks.has(partition)).length
  }

  async delivered(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.tasks.values()].map((task) => task.delivered(signal)))
  }

  /** Ends its tasks, and gives its partitions back. */
  async close(): Promise<void> {
    this.stop()
    this.closing.abort('closed')
    await Promise.all(this.changes.values())
    const tasks = [...this.tasks]
    await Promise.all(tasks.map(([, task]) => task.close()))
    if (this.group) {
      await Promise.all(tasks.map(([partition, task]) => this.record(partition, task)))
      await this.group.leave().catch((error) => this.options.context.logger.warn({}, messageOf(error)))
    }
    await Promise.allSettled([
      ...this.sources.map((source) => source.open.close()),
      ...this.hosts.map((host) => host.open.close()),
    ])
  }

  /** Frees what was opened before a start that failed. */
  async abandon(): Promise<void> {
    for (const task of this.tasks.values()) task.closeState()
    await this.close()
  }

  async sample(): Promise<void> {
    const tasks = [...this.tasks.values()]
    for (let i = 0; i < this.sources.length; i++) {
      const left = await Promise.all(tasks.map((task) => task.readers[i]?.lag().catch(() => undefined)))
      this.lags[i] = left.some((lag) => lag === undefined) ? null : left.reduce((sum: number, lag) => sum + lag!, 0)
    }
  }

  totals(): StageTotals {
    const sum = { ...this.past }
    for (const { totals, epochs } of [...this.tasks.values(), ...this.ending]) {
      sum.read += totals.read
      sum.deadLetters += totals.deadLetters
      sum.duplicates += totals.duplicates
      sum.late += totals.late
      sum.epochs += epochs
    }
    return sum
  }

  readOf(source: number): number {
    return [...this.tasks.values(), ...this.ending].reduce(
      (sum, task) => sum + task.readBySource[source]!,
      this.pastBySource[source]!,
    )
  }

  private samePartitions(): number {
    const { plan } = this.options
    const partitions = this.sources[0]!.open.partitions
    const other = this.sources.find((source) => source.open.partitions !== partitions)
    if (!other) return partitions
    throw new MillraceError(
      'BAD_PIPELINE',
      `pipeline "${plan.pipeline}": source "${other.name}" has ${other.open.partitions} partitions, and "${this.sources[0]!.name}" has ${partitions}: sources that meet in one pipeline must have as many`,
    )
  }

  private sameGroup(): Group | undefined {
    const { plan } = this.options
    const group = this.sources.find((source) => source.open.group)?.open.group
    const other = this.sources.find((source) => source.open.group !== group)
    if (!other) return group
    const grouped = this.sources.find((source) => source.open.group)!
    throw new MillraceError(
      'BAD_PIPELINE',
      `pipeline "${plan.pipeline}": the partitions of "${grouped.name}" are handed out by ${group!.name}, and those of "${other.name}" are not: sources that meet in one stage must be handed out together. Bring one of them to the others' system, or behind a repartition`,
    )
  }

  private sinkOf(name: string, node: OutputNode): OutputNode['to'] {
    if (!node.channel) return node.to
    const { pipeline } = this.plan
    const place = { pipeline, name: node.channel.name, partitions: node.channel.partitions ?? this.partitions }
    this.feeds.set(place.name, { producers: this.partitions, partitions: place.partitions })
    return this.channels(name).sink(place)
  }

  private channels(name: string): Channels {
    const { channels } = this.options
    if (channels) return channels
    throw new MillraceError(
      'BAD_PIPELINE',
      `pipeline "${this.plan.pipeline}": ${name} needs a log to bring records to other partitions, and this worker was started without channels`,
    )
  }

  private async openTask(partition: number): Promise<Task> {
    const {
      store,
      context,
      maxPoison,
      reopen,
      dropState,
      renameState,
      toDeadLetters,
      epoch,
      cache,
      acceptOlder,
      turns,
    } = this.options
    const known = await this.group?.recorded(partition)
    const tables = Math.max(1, Object.values(this.plan.slots).filter((kind) => kind === 'table').length)
    const task: Task = new Task({
      plan: this.plan,
      partition,
      store,
      sources: this.sources,
      sinks: this.hosts,
      channels: this.plan.outputs.map(({ name, node }) => node.channel && this.feeds.get(name)!.partitions),
      runtime: context.runtime,
      logger: context.logger,
      maxPoison,
      reopen,
      dropState,
      renameState,
      toDeadLetters,
      epoch,
      keys: this.keys,
      turns,
      ...(cache && { cache: { ...cache, bytes: cache.bytes / (tables * this.partitions) } }),
      failed: (error) => this.taskFailed(partition, task, error),
      committed: () => {
        this.tries.delete(partition)
        void this.recordSoon(partition, task)
      },
    })
    try {
      await task.open()
      for (const [source, record] of Object.entries(known ?? {})) {
        const doubt = contradiction(record, source, { store, epoch: task.durable.epoch })
        if (doubt === undefined) continue
        const said = `${task.id}: ${this.group!.name} ${doubt}`
        if (!acceptOlder) throw new MillraceError('STATE_BEHIND', `${said}, start once with --accept-older-state`)
        context.logger.warn({ partition }, `${said}: accepted`)
      }
    } catch (error) {
      task.closeState()
      throw error
    }
    this.tasks.set(partition, task)
    return task
  }

  private launch(partition: number, task: Task): void {
    // who had it before may not have come to say how far it is
    void this.recordSoon(partition, task)
    const run = task.run().then(
      () => {
        this.runs.delete(task)
        if (this.tasks.get(partition) === task) this.checkFinished()
      },
      (error) => this.options.failed(error),
    )
    this.runs.set(task, run)
  }

  private checkFinished(): void {
    const { wanted, tasks } = this
    // who is given nothing for now waits for more, unless there will be no more
    const ended =
      wanted !== undefined &&
      this.coming === 0 &&
      (wanted.size > 0 || this.options.untilEnd) &&
      [...wanted].every((partition) => tasks.get(partition)?.ended)
    if (this.stopping.signal.aborted || ended) this.finished.resolve()
  }

  /** Ends what is no longer this worker's, and opens what is; resolves when nothing of the former is at work any more. */
  private async assigned(wanted: ReadonlySet<number>, coming: number): Promise<void> {
    this.wanted = wanted
    this.coming = coming
    const partitions = new Set([...this.tasks.keys(), ...this.changes.keys(), ...wanted])
    const changes = [...partitions].map((partition) => [partition, this.settle(partition)] as const)
    this.checkFinished()
    await Promise.all(changes.map(([partition, change]) => (wanted.has(partition) ? undefined : change)))
  }

  /** Opens a partition's task if it is this worker's, and ends it if it is not, once former changes are through. */
  private settle(partition: number): Promise<void> {
    return this.inTurn(partition, async () => {
      const task = this.tasks.get(partition)
      if (this.closing.signal.aborted) return
      if (!this.wanted!.has(partition)) {
        if (task) await this.handOver(partition, task)
      } else if (!task && !this.stopping.signal.aborted) await this.takeUp(partition)
      this.checkFinished()
    })
  }

  /** Ends a task that may go to another worker: that one would send again what is on its way. */
  private async handOver(partition: number, task: Task): Promise<void> {
    const limit = new AbortController()
    const over = () => limit.abort('over')
    this.closing.signal.addEventListener('abort', over, { once: true })
    const letGo = task.letGo(this.runs.get(task))
    await Promise.race([letGo, this.options.context.runtime.sleep(HAND_OVER, limit.signal)])
    over()
    this.closing.signal.removeEventListener('abort', over)
    await this.giveUp(partition, task)
  }

  private async giveUp(partition: number, task: Task): Promise<void> {
    if (this.tasks.get(partition) !== task) return
    this.tasks.delete(partition)
    this.ending.add(task)
    await task.close()
    this.ending.delete(task)
    const { totals, epochs, readBySource } = task
    for (const what of ['read', 'deadLetters', 'duplicates', 'late'] as const) this.past[what] += totals[what]
    this.past.epochs += epochs
    readBySource.forEach((read, i) => {
      this.pastBySource[i]! += read
    })
  }

  /** Opens and launches a task; tried again, as long as it is wanted, however often the store or the source cannot be reached. */
  private async takeUp(partition: number): Promise<void> {
    try {
      const task = await this.openTask(partition)
      if (!this.stopping.signal.aborted && this.wanted!.has(partition)) return this.launch(partition, task)
      task.closeState()
      await this.giveUp(partition, task)
    } catch (error) {
      if (!(error instanceof MillraceError && (error.retriable || error.code === 'FENCED'))) throw error
      const wait = this.retryIn(partition)
      this.options.context.logger.warn({ partition, retryIn: wait }, `${messageOf(error)}; trying again`)
      void this.settleIn(wait, partition)
    }
  }

  /** What another worker, or a store that did not answer, took from this one is opened again if it is still this worker's. */
  private taskFailed(partition: number, task: Task, error: unknown): void {
    const { store, context, failed } = this.options
    // one that was given up has nothing more to say, nor one that has said why it cannot go on
    if (this.tasks.get(partition) !== task || this.lost.has(task)) return
    const code = error instanceof MillraceError ? error.code : undefined
    if (!((code === 'FENCED' && this.group) || (code === 'STATE_FAILED' && store.shared))) return failed(error)
    this.lost.add(task)
    if (this.closing.signal.aborted) return
    context.logger.warn({ partition }, `${messageOf(error)}; if the task is still this worker's, it is opened again`)
    void this.inTurn(partition, () => this.giveUp(partition, task))
    void this.settleIn(this.retryIn(partition), partition)
  }

  private async settleIn(ms: number, partition: number): Promise<void> {
    if (this.retrying.has(partition)) return
    this.retrying.add(partition)
    await this.options.context.runtime.sleep(ms, this.stopping.signal)
    this.retrying.delete(partition)
    await this.settle(partition)
  }

  /** Milliseconds before a partition is opened anew, longer with each time in a row. */
  private retryIn(partition: number): number {
    const tries = this.tries.get(partition) ?? 0
    this.tries.set(partition, tries + 1)
    return (
      Math.min(REOPEN.most, REOPEN.first * 2 ** Math.min(tries, 5)) * (0.5 + this.options.context.runtime.random() / 2)
    )
  }

  private inTurn(partition: number, change: () => Promise<void>): Promise<void> {
    const before = this.changes.get(partition) ?? Promise.resolve()
    const now = before.then(change).catch(this.options.failed)
    this.changes.set(partition, now)
    return now
  }

  /** Tells the group and the channels, now and then, how far a partition has come. */
  private async recordSoon(partition: number, task: Task): Promise<void> {
    if (!this.group && this.sources.every(({ open }) => !open.trim)) return
    const { runtime } = this.options.context
    const last = this.recorded.get(partition) ?? Number.NEGATIVE_INFINITY
    const due = last + RECORD
    if (runtime.elapsed() < due) {
      // The last commit before a quiet time is told as well, or lag tools would show for ever what is done.
      if (this.toRecord.has(partition)) return
      this.toRecord.add(partition)
      await runtime.sleep(due - runtime.elapsed(), this.stopping.signal)
      this.toRecord.delete(partition)
      if (this.stopping.signal.aborted || this.tasks.get(partition) !== task) return
    }
    this.recorded.set(partition, runtime.elapsed())
    // while partitions are shared out anew it is refused, and no commit may come after this one
    if (!(await this.record(partition, task))) void this.recordSoon(partition, task)
    for (const [i, position] of task.durable.positions.entries()) {
      const { open } = this.sources[i]!
      if (position?.last !== undefined) await open.trim?.(partition, position.last).catch(() => undefined)
    }
  }

  /** Whether the group knows now how far a partition has come. */
  private async record(partition: number, task: Task): Promise<boolean> {
    const { store, context } = this.options
    const { epoch, positions } = task.durable
    if (epoch === 0 || !this.group) return true
    const note = testimony(store, epoch)
    const records = Object.fromEntries(
      this.sources.flatMap(({ name }, i) => (positions[i] ? [[name, { next: positions[i].next, note }]] : [])),
    )
    const { group } = this
    try {
      await group.record(partition, records)
      return true
    } catch (error) {
      context.logger.debug({ partition }, `${group.name} was not told how far it is: ${messageOf(error)}`)
      return false
    }
  }
}

const asIs = (value: unknown) => value
