import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { type Carried, carriedOf, carriedText, type Mark, markOf, markText, watermarkOf } from './channel.ts'
import { type BlobWeight, expiryOf, planCompaction } from './compaction.ts'
import { bytes, milliseconds } from './duration.ts'
import type { ElementMeta } from './element.ts'
import { MillraceError, messageOf } from './errors.ts'
import { type Failure, Flow, failureText } from './flow.ts'
import { Intake } from './intake.ts'
import { createJournal } from './journal.ts'
import type { KeyWatch } from './key-watch.ts'
import { createState, type TaskState } from './keyed-state.ts'
import { Lane, type LaneBatch, type LaneHost, notRecorded, rowLetters } from './lane.ts'
import type { Logger } from './logger.ts'
import { type Key, keyText } from './operator.ts'
import type { Plan, PlanNode } from './plan.ts'
import type { Runtime } from './runtime.ts'
import type { Encoder, RowMeta } from './sink.ts'
import type { SinkHost } from './sink-host.ts'
import type { OpenSource, RawRecord, Reader } from './source.ts'
import type {
  Change,
  CommitResult,
  Compaction,
  DeadLetter,
  LaneChange,
  OpenedTask,
  StagedBatch,
  StateBlob,
  Store,
  StoredBatch,
} from './store.ts'
import type { Turns } from './turns.ts'
import {
  copyClock,
  idleUntil,
  idleWatermark,
  isSilent,
  newSourceClock,
  noteMark,
  type SourceClock,
} from './watermark.ts'
import { Writers } from './writers.ts'

/** What one task's facts hold, as JSON, beside its state in the store. */
interface Facts {
  readonly format: 1
  readonly slots: Readonly<Record<string, string>>
  readonly sources: Readonly<Record<string, StoredSource>>
  readonly sinks: Readonly<Record<string, string>>
  /** The last version that was drawn for last-write-wins. */
  readonly version: number
  readonly totals: Totals
  readonly watermarks: readonly (number | null)[]
  /** Deaths of lives whose commits took no record: they do not clear one that kills the process. */
  readonly deaths?: number
  /** The record that was last worked on alone, and how often in a row. */
  readonly trial?: Trial
  /** What was last said of event time to the stages behind. */
  readonly mark?: Mark
}

interface Trial {
  readonly source: string
  readonly position: number
  readonly times: number
}

interface StoredSource {
  readonly identity: string
  readonly partitions: number
  readonly next: number
  readonly last: { readonly position: number; readonly checksum: number } | null
  readonly maxTime: number | null
  readonly watermark: number | null
  readonly lastArrival: number
  /** The last sequence of each writer that said one. */
  readonly writers?: Readonly<Record<string, number>>
  readonly sealed: boolean
  /** Of a channel, by its producers; `unheard` of one that has said nothing yet. */
  readonly marks?: readonly (Mark | 'unheard')[]
}

interface Totals {
  read: number
  deadLetters: number
  duplicates: number
  late: number
}

/** A source as a task reads it. */
export interface TaskSource {
  readonly name: string
  readonly open: OpenSource
  readonly lateness: number
  readonly key: (value: any) => Key
  readonly time: (value: any) => number
  readonly validate: (value: unknown) => unknown
  /** Of a channel, how many tasks feed it. */
  readonly producers?: number
}

/** Bounds of an epoch beside the engine's own, read anew before each: what is made must not depend on them. */
export interface EpochBounds {
  readonly records: number
  /** Of staged rows; an epoch ends, between two records or timers, with what passes it. */
  readonly bytes: number
}

export interface TaskOptions {
  readonly plan: Plan
  readonly partition: number
  readonly store: Store
  readonly sources: readonly TaskSource[]
  readonly sinks: readonly SinkHost[]
  /** Of each output that is a channel, how many partitions it has. */
  readonly channels: readonly (number | undefined)[]
  readonly runtime: Runtime
  readonly logger: Logger
  readonly maxPoison: number
  readonly reopen: boolean
  readonly dropState: readonly string[]
  readonly renameState: Readonly<Record<string, string>>
  readonly toDeadLetters: boolean
  readonly epoch?: EpochBounds | undefined
  /** Where each table keeps what its share of memory has no room for. @default all stays in memory */
  readonly cache?: { readonly directory: string; readonly bytes: number } | undefined
  /** Notes in which partition a key was given, where there are several. */
  readonly keys?: KeyWatch | undefined
  /** Shared with the worker's other tasks. */
  readonly turns: Turns
  /** Called after each epoch that became durable. */
  readonly committed?: () => void
  /** Called at the first thing that keeps the task from going on. */
  failed(error: unknown): void
}

/** Bounds of one epoch: records, staged bytes, and the milliseconds that its flow should take. */
const EPOCH = { first: 500, most: 50_000, bytes: 8 * 1024 * 1024, target: 50 }
/** With so many batches in a lane, an epoch begins so many milliseconds after the last one. */
const LINGER = { batches: 10_000, ms: 250 }
/** Milliseconds after which a source that is said to be at its head is asked again, while others go on. */
const HEAD = 1_000
/** Records that a partition's poison is counted over, and how many of them are no flood yet. */
const POISON = { window: 1_000, atLeast: 20 }
/** Milliseconds of event time after which the stages behind are told of it, when no record tells them. */
const MARK = 1_000
/**
 * Deaths in a row without a record committed, after which the process may be dying of the first one; and deaths while that
 * was worked on alone, after which it is.
 */
const DEATHS = { suspicious: 10, alone: 10 }

interface Element {
  readonly source: number
  readonly record: RawRecord
  readonly stamp: number
  readonly key: string
  readonly time: number
  readonly value: unknown
  readonly carried: Carried | undefined
}

interface Staging {
  /** Of a channel, how many partitions it has. */
  readonly channel: number | undefined
  readonly encoder: Encoder<unknown>
  rows: string[]
  times: number[]
  arrivals: number[]
}

/** How far a task has come for good. */
export interface Durable {
  readonly epoch: number
  /** Of each source, where it is read on from, and the last record before; undefined of one not begun. */
  readonly positions: readonly ({ readonly next: number; readonly last: number | undefined } | undefined)[]
}

/** One stage of a pipeline on one partition of its sources. */
export class Task {
  readonly id: string
  readonly lanes: Lane[] = []
  readonly totals: Totals = { read: 0, deadLetters: 0, duplicates: 0, late: 0 }
  /** Of each source, records read in this run. */
  readonly readBySource: number[]
  epochs = 0
  paused = false
  ended = false
  watermark = Number.NEGATIVE_INFINITY
  readers: Reader[] = []
  /** What the store is known to hold. */
  durable: Durable = { epoch: 0, positions: [] }
  private readonly options: TaskOptions
  private readonly stopping = new AbortController()
  private readonly closing = new AbortController()
  private readonly killed = new AbortController()
  private readonly journal = createJournal()
  private readonly structures: { slot: string; state: TaskState; blobs: BlobWeight[] }[] = []
  private readonly clocks: SourceClock[]
  private readonly positions: {
    next: number
    last: { position: number; checksum: number } | null
    raw: RawRecord | undefined
    writers: Writers
  }[]
  private intakes: Intake[] = []
  private flow!: Flow
  private opened!: OpenedTask
  private life = ''
  private epoch = 0
  private lastEpoch = 0
  private staging: Staging[] = []
  private stagedBytes = 0
  /** What was last said of event time to the stages behind; undefined when nothing was, or there are none. */
  private mark: Mark | undefined
  private letters: DeadLetter[] = []
  private version = 0
  private limit = EPOCH.first
  private most = EPOCH.first
  private mostBytes = EPOCH.bytes
  /** An epoch of this life has been handed to the store. */
  private begun = false
  /** An epoch of this life that took a record has been handed to the store. */
  private proven = false
  /** The record that this life works on alone, or the one before it did. */
  private trial: Trial | undefined
  /** The process died of that one often enough. */
  private condemned = false
  /** What lanes have done is being committed. */
  private flushing: Promise<void> = Promise.resolve()
  private pending: LaneChange[] = []
  private pendingLetters: DeadLetter[] = []
  /** Some of it is on its way to the store without an epoch. */
  private noting = false
  private committing: Promise<void> | undefined
  private wake: (() => void) | undefined
  /** Of the last records, whether they were poison; `judged` is where the next one goes. */
  private readonly recent = new Uint8Array(POISON.window)
  private judged = 0
  private poisoned = 0
  private previous: Totals = { read: 0, deadLetters: 0, duplicates: 0, late: 0 }
  private readonly sending: Promise<void>[] = []
  private readonly loops: Promise<unknown>[] = []
  /** From the reading of blobs that are to be merged until what they became is installed. */
  private compacting = false
  private installable: { slot: string; compaction: Compaction }[] = []
  private readonly bounds: { bytes: number; age: number; park: boolean }[]

  constructor(options: TaskOptions) {
    this.options = options
    const { plan, partition } = options
    this.id = `${plan.pipeline}/${plan.stage}/${partition}`
    this.clocks = options.sources.map(({ producers }) => newSourceClock(producers))
    this.positions = options.sources.map(() => ({ next: 0, last: null, raw: undefined, writers: new Writers() }))
    this.readBySource = options.sources.map(() => 0)
    this.bounds = plan.outputs.map(({ name, node: { lane } }) => ({
      bytes: bytes(lane.maxStaged, `output "${name}": maxStaged`),
      age: lane.maxAge === undefined ? Number.POSITIVE_INFINITY : milliseconds(lane.maxAge, `output "${name}": maxAge`),
      park: lane.whenFull === 'park',
    }))
  }

  /** Loads what is stored, and refuses what does not fit it. @throws MillraceError */
  async open(): Promise<void> {
    const { plan, store, sources, sinks, partition, runtime, keys } = this.options
    this.opened = await store.open(this.id)
    this.epoch = this.opened.epoch
    this.life = runtime.id().replaceAll('-', '').slice(0, 16)
    const facts = this.opened.facts === undefined ? undefined : (JSON.parse(this.opened.facts) as Facts)
    if (facts?.deaths) this.opened = { ...this.opened, deaths: this.opened.deaths + facts.deaths }
    if (facts) this.check(facts)
    if (facts && this.options.toDeadLetters) await this.setAside(facts)
    if (this.opened.deaths > 1) this.limit = Math.max(1, EPOCH.first >> (this.opened.deaths - 1))
    this.flow = new Flow(plan, {
      runtime,
      state: (node, clock) => this.stateOf(node, clock),
      row: (output, value, meta) => this.stage(output, value, meta),
      count: (what) => {
        this.totals[what]++
      },
      ...(keys ? { rekeyed: (node: PlanNode, key: string) => keys.note(node.name, key, partition) } : {}),
    })
    this.opened = { ...this.opened, blobs: [] }
    for (const [level, segment] of this.flow.segments.entries()) {
      segment.meta.versions = { next: (stamp) => (this.version = Math.max(this.version + 1, stamp * 1024)) }
      segment.clock.watermark = unstored(facts?.watermarks[level])
    }
    sources.forEach((source, i) => {
      const stored = facts?.sources[source.name]
      if (!stored) return
      const sealed = stored.sealed && !this.options.reopen
      const maxTime = unstored(stored.maxTime)
      this.clocks[i] = {
        maxTime,
        watermark: stored.sealed ? maxTime - source.lateness : unstored(stored.watermark),
        lastArrival: stored.lastArrival,
        sealed,
        ...(source.producers === undefined ? {} : { marks: this.storedMarks(source.producers, stored, sealed) }),
      }
      const { next, last, writers } = stored
      this.positions[i] = { next, last, raw: undefined, writers: new Writers(writers) }
    })
    this.durable = {
      epoch: this.epoch,
      positions: this.positionsNow(),
    }
    if (facts && this.options.reopen)
      for (const segment of this.flow.segments)
        if (segment.clock.watermark === Infinity) segment.clock.watermark = this.taskWatermark()
    if (facts) this.previous = facts.totals
    this.trial = facts?.trial
    this.version = facts?.version ?? 0
    this.mark = facts?.mark
    if (this.mark === 'end' && this.options.reopen) this.mark = undefined
    this.staging = sinks.map((sink, i) => ({
      channel: this.options.channels[i],
      encoder: sink.open.encoder(this.id),
      rows: [],
      times: [],
      arrivals: [],
    }))
    const host = this.laneHost()
    for (const [i, output] of plan.outputs.entries()) {
      const restored = this.opened.batches.filter((batch) => batch.sink === output.name)
      this.lanes.push(new Lane(host, output.name, sinks[i]!, this.life, restored, this.opened.receipts[output.name]))
    }
    this.readers = await Promise.all(
      sources.map((source, i) => {
        const { next, last } = this.positions[i]!
        return source.open.reader(partition, next === 0 && !last ? undefined : { next, ...(last ? { last } : {}) })
      }),
    )
    for (const [i, reader] of this.readers.entries()) {
      if (!this.clocks[i]!.sealed) continue
      const more = await reader.read({ records: 1, bytes: 1 })
      if (more !== null && more.length > 0) {
        throw new MillraceError(
          'SOURCE_SEALED',
          `source "${sources[i]!.name}" was read to its end, and has grown since: its timers have fired as if nothing more would come. Read on with --reopen, or use a fresh data directory`,
        )
      }
    }
  }

  /** Runs until all sources have ended, or `stop`. Resolves when no further epoch will begin. */
  async run(): Promise<void> {
    const { runtime, turns } = this.options
    for (const lane of this.lanes) this.sending.push(lane.run())
    this.intakes = this.readers.map((reader) => new Intake(reader, runtime, this.stopping.signal, () => this.wake?.()))
    for (const [i, intake] of this.intakes.entries()) {
      if (!this.clocks[i]!.sealed) this.loops.push(intake.run().catch((error) => this.fail(error)))
    }
    try {
      while (!this.stopping.signal.aborted) {
        if (this.laneFull()) {
          this.paused = true
          await this.settled()
          await this.flush()
          await this.rest(1_000)
          continue
        }
        this.paused = false
        if (this.clocks.every((clock) => clock.sealed)) break
        const wait = this.idle()
        if (wait > 0) {
          await this.settled()
          await this.flush()
          if (this.idle() > 0) await this.rest(wait)
          continue
        }
        await this.linger()
        if (this.proven || this.opened.deaths <= DEATHS.suspicious) await turns.beside(() => this.runEpoch())
        else await turns.alone(() => this.tryAlone())
      }
      this.ended = this.clocks.every((clock) => clock.sealed)
      if (!this.begun && !this.killed.signal.aborted) await this.commitEpoch()
      await this.settled()
    } catch (error) {
      this.fail(error)
    } finally {
      this.closeState()
    }
  }

  /** Frees the cache files of its state, which no epoch may read from here on. */
  closeState(): void {
    for (const { state } of this.structures) state.close()
  }

  /** Takes no further records; the epoch under way ends as usual. */
  stop(): void {
    // with a reason of their own, none is made for the signals, which would cost more than the rest
    this.stopping.abort('stopped')
    this.wake?.()
  }

  /** Resolves when the lanes are empty. */
  async delivered(signal?: AbortSignal): Promise<void> {
    while (!this.killed.signal.aborted && !signal?.aborted && this.lanes.some((lane) => lane.length > 0)) {
      await this.pause(200)
    }
    // what cannot be noted ends the worker, with all its tasks closed
    await this.flush().catch((error) => this.fail(error))
  }

  /** Takes no further records, and sends nothing more; resolves when its run has ended and what is on its way is answered for. */
  async letGo(run: Promise<void> | undefined): Promise<void> {
    this.stop()
    this.closing.abort('the task is another worker’s')
    await Promise.allSettled([run, ...this.sending])
    await this.flush().catch((error) => this.fail(error))
  }

  /** Ends everything: deliveries under way are given up, as unknown. */
  async close(): Promise<void> {
    this.kill()
    await Promise.allSettled(this.readers.map((reader) => reader.close()))
    const limit = new AbortController()
    await Promise.race([
      Promise.allSettled([...this.sending, ...this.loops]),
      this.options.runtime.sleep(5_000, limit.signal),
    ])
    limit.abort('closed')
    await this.flush().catch(() => undefined)
  }

  get stagedBefore(): Totals {
    return this.previous
  }

  private fail(error: unknown): void {
    this.kill()
    this.options.failed(error)
  }

  private kill(): void {
    this.stop()
    this.closing.abort('the worker is stopping')
    this.killed.abort('the worker is stopping')
  }

  /** A pause that a stop ends, or does not let begin: it may have come while the last commit was waited for. */
  private async rest(ms: number): Promise<void> {
    if (!this.stopping.signal.aborted) await this.pause(ms)
  }

  private pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = new AbortController()
    this.wake = () => {
      // with a reason of our own, none is made, which would cost more than the rest
      timer.abort('woken')
      resolve()
    }
    void this.options.runtime.sleep(ms, timer.signal).then(() => resolve())
    return promise
  }

  /** Milliseconds until there is something to do; 0 when there is. */
  private idle(): number {
    const { runtime, sources } = this.options
    const open = this.intakes.filter((_, i) => !this.clocks[i]!.sealed)
    if (open.some((intake) => intake.ended)) return 0
    // a source that has something to read but has not given it yet holds the others: order by event time needs its next
    if (open.some((intake) => intake.peek() !== undefined)) {
      return open.every((intake) => intake.peek() !== undefined || intake.atHead || intake.ended) ? 0 : 1_000
    }
    if (!open.every((intake) => intake.atHead)) return 1_000
    const now = runtime.now()
    const processing = this.flow.earliest('processing')
    if (processing <= now) return 0
    let wait = Math.min(60_000, processing - now, this.markDue(now))
    if (wait <= 0) return 0
    const event = this.flow.earliest('event')
    if (event < Number.POSITIVE_INFINITY) {
      const at = Math.max(
        ...this.clocks.map((clock, i) => (clock.sealed ? 0 : idleUntil(clock, sources[i]!.lateness, event))),
      )
      if (at <= now) {
        // time may go on to there only if each was still at its head then
        const old = open.filter((intake) => intake.headAt < at)
        for (const intake of old) intake.confirm()
        return old.length === 0 ? 0 : 1_000
      }
      wait = Math.min(wait, at - now)
    }
    return Math.max(1, wait)
  }

  /** Behind a sink that takes nothing, epochs of few records would leave more batches than memory should list. */
  private async linger(): Promise<void> {
    const { runtime } = this.options
    const since = runtime.elapsed() - this.lastEpoch
    if (since < LINGER.ms && this.lanes.some((lane) => lane.length > LINGER.batches))
      await runtime.sleep(LINGER.ms - since, this.stopping.signal)
    this.lastEpoch = runtime.elapsed()
  }

  private laneFull(): boolean {
    const now = this.options.runtime.now()
    return this.lanes.some((lane, i) => {
      const bound = this.bounds[i]!
      return !bound.park && (lane.bytes >= bound.bytes || now - lane.oldest >= bound.age)
    })
  }

  private atHead(source: number): boolean {
    const intake = this.intakes[source]
    return intake?.atHead === true && intake.peek() === undefined
  }

  private taskWatermark(): number {
    let watermark = Number.POSITIVE_INFINITY
    let silent = false
    for (let i = 0; i < this.clocks.length; i++) {
      const clock = this.clocks[i]!
      if (clock.sealed) continue
      // a source that has never given a record says nothing of event time, once it is known to be at its head
      if (isSilent(clock, this.atHead(i))) silent = true
      else if (clock.watermark < watermark) watermark = clock.watermark
    }
    return silent && watermark === Number.POSITIVE_INFINITY ? Number.NEGATIVE_INFINITY : watermark
  }

  /** Works on the first record alone, having noted that: if the process dies now, it dies of this record. */
  private async tryAlone(): Promise<void> {
    const source = this.choose()
    if (source >= 0) {
      const times = this.isTried(source) ? this.trial!.times : 0
      this.condemned = times >= DEATHS.alone
      if (!this.condemned) {
        const { position } = this.intakes[source]!.peek()!
        this.trial = { source: this.options.sources[source]!.name, position, times: times + 1 }
        await this.commitEpoch()
        await this.settled()
        if (this.choose() !== source) return
      }
    }
    await this.runEpoch()
    await this.settled()
  }

  /** Whether the next record of a source is the one that was last worked on alone. */
  private isTried(source: number): boolean {
    const { trial } = this
    return (
      trial?.source === this.options.sources[source]!.name && trial.position === this.intakes[source]!.peek()!.position
    )
  }

  /** Takes input, runs the flow on it, and commits. */
  private async runEpoch(): Promise<void> {
    const { runtime, turns } = this.options
    const began = runtime.elapsed()
    const { records = EPOCH.most, bytes: most = EPOCH.bytes } = this.options.epoch ?? {}
    this.most = Math.min(this.limit, records)
    this.mostBytes = most
    this.letters = []
    this.flow.begin()
    let taken = 0
    if (this.flow.synchronous) taken = this.runSynchronous(began)
    else taken = await this.runAsynchronous()
    const lasted = runtime.elapsed() - began
    if (this.flow.synchronous) turns.spend(lasted)
    const first = !this.proven
    if (taken > 0) this.proven = true
    await this.commitEpoch()
    // with little to do, more records a commit are worth more than an early start; and what kills the process must not be
    // begun before what came first is durable, which would be taken for it
    if (first || (taken < this.most && lasted < EPOCH.target)) await this.settled()
    if (taken === 0) return
    if (lasted > EPOCH.target) this.limit = Math.max(50, Math.floor(this.limit * 0.75))
    else if (taken >= this.limit) this.limit = Math.min(EPOCH.most, this.limit + 500)
  }

  private runSynchronous(began: number): number {
    const { runtime } = this.options
    let taken = 0
    this.sealClocks()
    if (!this.tick()) return taken
    while (taken < this.most && this.stagedBytes < this.mostBytes) {
      const source = this.choose()
      if (source < 0) break
      const element = this.element(source)
      if (element) {
        if (!this.advance(this.flow.segments[0]!.clock.watermark, this.sourceWatermark(source, element), element.stamp))
          break
        if (!isMark(element)) this.deliver(element)
      }
      this.taken(source, element)
      // where a source ends is a place among the records, and not among the epochs
      if (this.intakes[source]!.ended) this.sealClocks()
      taken++
      if ((taken & 255) === 0 && runtime.elapsed() - began > 4 * EPOCH.target) break
    }
    this.seal()
    this.flow.finish()
    return taken
  }

  /** Flows that wait for answers: the epoch is run again without what failed, until nothing does. */
  private async runAsynchronous(): Promise<number> {
    const elements: { source: number; element: Element | undefined; ends: boolean }[] = []
    this.sealClocks()
    const watermarks = this.flow.segments.map((segment) => segment.clock.watermark)
    while (elements.length < this.most) {
      const source = this.choose()
      if (source < 0) break
      const element = this.element(source)
      this.taken(source, element)
      elements.push({ source, element, ends: this.intakes[source]!.ended })
    }
    const clocks = this.clocks.map(copyClock)
    const { duplicates, late } = this.totals
    const excluded = new Set<string>()
    const dead = new Set<number>()
    for (;;) {
      const failures: Failure[] = []
      this.clocks.splice(0, this.clocks.length, ...clocks.map(copyClock))
      this.flow.segments.forEach((segment, i) => {
        segment.clock.watermark = watermarks[i]!
        segment.queuedWatermark = watermarks[i]!
      })
      this.flow.begin()
      this.flow.asyncFailures.length = 0
      const attempt = (identity: { record?: number; timer?: string }, work: () => void) => {
        try {
          work()
        } catch (error) {
          if (error instanceof MillraceError && error.code === 'FLOW_BROKE_RULES') throw error
          failures.push({ record: identity.record, timer: identity.timer, ...this.flow.takeFailure(error) })
        }
      }
      const advance = (watermark: number, stamp: number) => {
        for (let owner = this.flow.due(0, watermark, stamp); owner; owner = this.flow.due(0, watermark, stamp)) {
          const timer = owner.timers.peek()!
          const name = `${owner.node.name}/${owner.piece}/${timer.time}/${timer.key}`
          if (excluded.has(name)) owner.timers.take()
          else {
            const due = owner
            attempt({ timer: name }, () => this.flow.fire(0, due, stamp))
          }
        }
        const segment = this.flow.segments[0]!
        segment.clock.watermark = Math.max(segment.clock.watermark, watermark)
        segment.meta.stamp = stamp
        this.flow.mark(0)
      }
      const now = this.options.runtime.now()
      if (elements.length === 0) advance(this.idleMark(now), now)
      elements.forEach(({ source, element, ends }, i) => {
        if (element) advance(this.sourceWatermark(source, element), element.stamp)
        if (element && !isMark(element) && !dead.has(i)) {
          this.setMeta(element)
          attempt({ record: i }, () => this.flow.push(source, element.value, i))
        }
        if (ends) this.clocks[source]!.sealed = true
      })
      this.sealClocks()
      advance(this.taskWatermark(), now)
      await this.flow.complete(excluded, failures)
      failures.push(...this.flow.asyncFailures)
      if (failures.length === 0) break
      this.journal.undoTo(0)
      this.clearStaging()
      this.totals.duplicates = duplicates
      this.totals.late = late
      for (const failure of failures) {
        const { code, reason } = failureText(failure.error)
        if (failure.record !== undefined && !dead.has(failure.record)) {
          dead.add(failure.record)
          const { source, element } = elements[failure.record]!
          this.deadLetter(source, element!.record, failure.where, code, reason, element!.stamp, element!)
        } else if (failure.timer !== undefined && !excluded.has(failure.timer)) {
          excluded.add(failure.timer)
          this.timerLetter(failure.timer, failure.where, code, reason)
        }
      }
    }
    return elements.length
  }

  /** Lets a source that is at its head move with the clock; false when the epoch is full of what that fired. */
  private tick(): boolean {
    const { runtime } = this.options
    const now = runtime.now()
    const heads = this.intakes.some(
      (intake, i) => !this.clocks[i]!.sealed && intake.peek() === undefined && intake.atHead,
    )
    if (!heads) return true
    if (
      this.clocks.length === 1 ||
      this.intakes.every((intake, i) => this.clocks[i]!.sealed || intake.peek() === undefined)
    ) {
      if (this.intakes.some((intake) => intake.peek() !== undefined)) return true
      return this.advance(0, this.idleMark(now), now)
    }
    return this.advance(0, this.idleMark(now), now)
  }

  /** The task's watermark, when every source that is at its head has moved with the clock. */
  private idleMark(now: number): number {
    let watermark = Number.POSITIVE_INFINITY
    this.clocks.forEach((clock, i) => {
      const intake = this.intakes[i]!
      const idle = !clock.sealed && intake.peek() === undefined && intake.atHead
      if (idle && now - intake.headAt > HEAD) intake.confirm()
      const mark = idle
        ? idleWatermark(clock, this.options.sources[i]!.lateness, Math.min(now, intake.headAt))
        : clock.sealed
          ? Number.POSITIVE_INFINITY
          : clock.watermark
      if (idle && !clock.marks && clock.maxTime > Number.NEGATIVE_INFINITY) clock.watermark = mark
      watermark = Math.min(watermark, mark)
    })
    return watermark === Number.POSITIVE_INFINITY ? this.taskWatermark() : watermark
  }

  /** The source whose next record is the oldest; -1 when none may be taken now. */
  private choose(): number {
    if (this.intakes.length === 1) return !this.clocks[0]!.sealed && this.intakes[0]!.peek() !== undefined ? 0 : -1
    let chosen = -1
    let oldest = Number.POSITIVE_INFINITY
    for (const [i, intake] of this.intakes.entries()) {
      if (this.clocks[i]!.sealed) continue
      const record = intake.peek()
      if (record === undefined) {
        if (intake.atHead || intake.ended) continue
        return -1
      }
      const time = this.peekTime(i, record)
      if (chosen < 0 || time < oldest) {
        chosen = i
        oldest = time
      }
    }
    return chosen
  }

  private readonly peeked: { record: RawRecord; decoded: Element | Error }[] = []

  private peekTime(source: number, record: RawRecord): number {
    let known = this.peeked[source]
    if (known?.record !== record) {
      known = { record, decoded: this.decode(source, record, this.intakes[source]!.stamp) }
      this.peeked[source] = known
    }
    return known.decoded instanceof Error ? Number.NEGATIVE_INFINITY : known.decoded.time
  }

  /** Decodes the next record of a source; undefined when it is poison, which is noted. */
  private element(source: number): Element | undefined {
    const intake = this.intakes[source]!
    const record = intake.peek()!
    if (this.positions[source]!.writers.had(record)) {
      this.totals.duplicates++
      return undefined
    }
    const { stamp } = intake
    const known = this.peeked[source]
    const decoded = known?.record === record ? known.decoded : this.decode(source, record, stamp)
    if (decoded instanceof Error) {
      this.deadLetter(
        source,
        record,
        'decode',
        decoded instanceof MillraceError ? decoded.code : 'UNDECODABLE',
        messageOf(decoded),
        stamp,
        undefined,
      )
      return undefined
    }
    if (this.condemned && this.isTried(source)) {
      this.deadLetter(
        source,
        record,
        'task',
        'INTERNAL',
        `the process died ${this.trial!.times} times while it worked on this record and on no other`,
        stamp,
        decoded,
      )
      return undefined
    }
    return decoded
  }

  private decode(source: number, record: RawRecord, stamp: number): Element | Error {
    const from = this.options.sources[source]!
    try {
      if (from.producers !== undefined) {
        const carried = carriedOf(from.open.decode(record))
        const time = carried.time ?? Number.NEGATIVE_INFINITY
        return { source, record, stamp, key: record.key ?? '', time, value: carried.value, carried }
      }
      const value = from.validate(from.open.decode(record))
      const time = from.time(value)
      if (!Number.isFinite(time))
        return new MillraceError('UNDECODABLE', `${from.name}: time must give epoch milliseconds, got ${time}`)
      return {
        source,
        record,
        stamp,
        key: keyText(from.key(value), `${from.name}: key`),
        time,
        value,
        carried: undefined,
      }
    } catch (error) {
      return error instanceof MillraceError
        ? error
        : new MillraceError('UNDECODABLE', messageOf(error), { cause: error })
    }
  }

  /** Moves the source's clock for a record, and gives the task's watermark. */
  private sourceWatermark(source: number, { time, carried }: Element): number {
    const clock = this.clocks[source]!
    if (time > clock.maxTime) {
      clock.maxTime = time
      if (!carried) clock.watermark = Math.max(clock.watermark, time - this.options.sources[source]!.lateness)
    }
    if (carried) noteMark(clock, carried.producer, carried.mark)
    return this.clocks.length === 1 ? clock.watermark : this.taskWatermark()
  }

  /** Fires what is due before `to`, one timer at a time; false when the epoch is full before that is done. */
  private advance(_from: number, to: number, stamp: number): boolean {
    const { flow } = this
    const segment = flow.segments[0]!
    for (let owner = flow.due(0, to, stamp); owner; owner = flow.due(0, to, stamp)) {
      if (this.stagedBytes >= this.mostBytes) return false
      const mark = this.savepoint()
      try {
        flow.fire(0, owner, stamp)
      } catch (error) {
        const { where } = this.recover(error, mark)
        const timer = owner.timers.take()
        const { code, reason } = failureText(error)
        this.timerLetter(`${owner.node.name}/${owner.piece}/${timer.time}/${timer.key}`, where, code, reason)
      }
    }
    if (to > segment.clock.watermark) segment.clock.watermark = to
    this.watermark = segment.clock.watermark
    return true
  }

  private setMeta(element: Element): ElementMeta {
    const { meta } = this.flow.segments[0]!
    meta.record(
      this.options.sources[element.source]!.name,
      this.options.partition,
      element.record.position,
      element.stamp,
    )
    meta.carried = element.carried?.cause
    meta.key = element.key
    meta.time = element.time
    return meta
  }

  private deliver(element: Element): void {
    this.setMeta(element)
    this.options.keys?.note(this.options.sources[element.source]!.name, element.key, this.options.partition)
    const mark = this.savepoint()
    try {
      this.flow.push(element.source, element.value, 0)
    } catch (error) {
      const { where } = this.recover(error, mark)
      const { code, reason } = failureText(error)
      this.deadLetter(element.source, element.record, where, code, reason, element.stamp, element)
      return
    }
    this.notePoison(false)
  }

  private readonly marks: number[] = []

  private savepoint(): number {
    const { marks, staging } = this
    for (let i = 0; i < staging.length; i++) marks[i] = staging[i]!.rows.length
    marks[staging.length] = this.stagedBytes
    marks[staging.length + 1] = this.totals.duplicates
    marks[staging.length + 2] = this.totals.late
    return this.journal.mark()
  }

  /** Takes back what a failing element did; rethrows what is the pipeline's fault. */
  private recover(error: unknown, mark: number): { where: string } {
    if (error instanceof MillraceError && error.code === 'FLOW_BROKE_RULES') throw error
    const failure = this.flow.takeFailure(error)
    this.journal.undoTo(mark)
    const { marks, staging } = this
    for (let i = 0; i < staging.length; i++) {
      const rows = marks[i]!
      staging[i]!.rows.length = rows
      staging[i]!.times.length = rows
      staging[i]!.arrivals.length = rows
    }
    this.stagedBytes = marks[staging.length]!
    this.totals.duplicates = marks[staging.length + 1]!
    this.totals.late = marks[staging.length + 2]!
    this.flow.begin()
    return failure
  }

  private taken(source: number, element: Element | undefined): void {
    const intake = this.intakes[source]!
    const record = intake.peek()!
    const place = this.positions[source]!
    place.next = record.next
    place.raw = record
    place.writers.note(record)
    this.clocks[source]!.lastArrival = element?.stamp ?? intake.stamp
    if (!this.clocks[source]!.marks) this.totals.read++
    if (!element || !isMark(element)) this.readBySource[source]!++
    intake.take()
  }

  /** Seals what has ended, and moves the watermark to infinity once all has. */
  private seal(): void {
    this.sealClocks()
    if (
      this.clocks.every((clock) => clock.sealed) &&
      !this.advance(0, Number.POSITIVE_INFINITY, this.options.runtime.now())
    ) {
      // the last epoch is full: the end comes again with the next one
      this.intakes.forEach((intake, i) => {
        if (intake.ended || hasEnded(this.clocks[i]!)) this.clocks[i]!.sealed = false
      })
    }
  }

  private sealClocks(): void {
    this.intakes.forEach((intake, i) => {
      const clock = this.clocks[i]!
      if (intake.ended || hasEnded(clock)) clock.sealed = true
    })
  }

  private notePoison(bad: boolean): void {
    const { recent } = this
    this.poisoned += (bad ? 1 : 0) - recent[this.judged]!
    recent[this.judged] = bad ? 1 : 0
    this.judged = (this.judged + 1) % POISON.window
    if (!bad || this.poisoned < POISON.atLeast || this.poisoned <= this.options.maxPoison * POISON.window) return
    const last = this.letters.at(-1)!
    throw new MillraceError(
      'POISONED',
      `${this.id}: ${this.poisoned} of the last ${POISON.window} records are poison, the last one at ${last.source} ${last.position} (${last.where}: ${last.reason}). Nothing of this epoch was committed: mend the schema or the operator, or raise maxPoison, and start again`,
    )
  }

  private deadLetter(
    source: number,
    record: RawRecord,
    where: string,
    code: string,
    reason: string,
    at: number,
    known: { key: string; time: number } | undefined,
  ): void {
    this.letters.push({
      source: this.options.sources[source]!.name,
      partition: this.options.partition,
      position: record.position,
      at,
      where,
      code,
      reason,
      ...(known ? { key: known.key, time: known.time } : {}),
      bytes: record.bytes(),
    })
    this.totals.deadLetters++
    this.notePoison(true)
  }

  private timerLetter(timer: string, where: string, code: string, reason: string): void {
    this.letters.push({
      source: `timer ${timer}`,
      partition: this.options.partition,
      position: -1,
      at: this.options.runtime.now(),
      where,
      code,
      reason,
      bytes: Buffer.from(timer),
    })
    this.totals.deadLetters++
  }

  private stage(output: number, value: unknown, meta: ElementMeta): void {
    const staging = this.staging[output]!
    const { encoder, channel } = staging
    const text =
      channel === undefined
        ? encoder.row(value, meta)
        : encoder.row({ key: meta.key, text: this.carry(output, value, meta) }, meta)
    staging.rows.push(text)
    staging.times.push(meta.time)
    staging.arrivals.push(meta.stamp)
    this.stagedBytes += text.length
  }

  private carry(output: number, value: unknown, { time, cause }: ElementMeta): string {
    const { watermark } = this.flow.segments[this.options.plan.outputs[output]!.level]!.clock
    return carriedText(this.options.partition, watermark, time, cause, value)
  }

  /** Milliseconds until the stages behind are to be told of the time, while all sources are at their heads. */
  private markDue(now: number): number {
    if (this.options.channels.every((channel) => channel === undefined)) return Number.POSITIVE_INFINITY
    if (this.clocks.every((clock, i) => clock.sealed || isSilent(clock, this.atHead(i))))
      return this.mark === undefined ? 0 : Number.POSITIVE_INFINITY
    const said = watermarkOf(this.mark) ?? Number.NEGATIVE_INFINITY
    let comes = Number.POSITIVE_INFINITY
    for (const [i, clock] of this.clocks.entries())
      comes = Math.min(comes, idleWatermark(clock, this.options.sources[i]!.lateness, now))
    if (comes === Number.NEGATIVE_INFINITY) return Number.POSITIVE_INFINITY
    if (comes >= said + MARK) return 0
    const moves = this.clocks.some((clock) => !clock.sealed && !clock.marks)
    return moves ? said + MARK - comes : Number.POSITIVE_INFINITY
  }

  /** Tells all partitions of the stages behind how far this task has come, when that is news to them. */
  private stageMarks(): void {
    const channels = this.staging.filter((staging) => staging.channel !== undefined)
    if (channels.length === 0) return
    const last = Math.min(...this.flow.segments.map((segment) => segment.clock.watermark))
    const silent =
      last === Number.NEGATIVE_INFINITY &&
      this.clocks.every((clock, i) => clock.sealed || isSilent(clock, this.atHead(i)))
    const mark = silent ? 'idle' : markOf(last)
    const said = watermarkOf(this.mark) ?? Number.NEGATIVE_INFINITY
    const news =
      mark === 'idle'
        ? this.mark === undefined
        : mark === 'end'
          ? this.mark !== 'end'
          : mark !== null && last >= said + MARK
    if (!news) return
    this.mark = mark
    const now = this.options.runtime.now()
    const text = markText(this.options.partition, mark)
    // nobody caused a mark
    const meta: RowMeta = {
      key: '',
      time: now,
      cause: '',
      now: () => now,
      version: () => this.flow.segments[0]!.meta.versions!.next(now),
    }
    for (const { encoder, channel, rows, times, arrivals } of channels) {
      for (let partition = 0; partition < channel!; partition++) {
        rows.push(encoder.row({ partition, key: '', text }, meta))
        times.push(now)
        arrivals.push(now)
      }
    }
  }

  private clearStaging(): void {
    for (const staging of this.staging) {
      staging.rows = []
      staging.times = []
      staging.arrivals = []
    }
    this.stagedBytes = 0
  }

  /** The epoch's rows as batches, cut by their sink's bounds. */
  private batches(): { batch: StagedBatch; lane: Lane; samples: NonNullable<LaneBatch['samples']> }[] {
    const made: { batch: StagedBatch; lane: Lane; samples: NonNullable<LaneBatch['samples']> }[] = []
    const { plan, sinks, runtime } = this.options
    this.staging.forEach((staging, i) => {
      const { rows, times, arrivals } = staging
      if (rows.length === 0) return
      const limit = sinks[i]!.open.limit ?? {}
      const most = Math.max(1, Math.min(limit.rows ?? 500_000, 500_000))
      const chunks: [number, number][] = []
      for (let from = 0; from < rows.length; ) {
        let to = from
        let size = 0
        while (
          to < rows.length &&
          to - from < most &&
          (to === from || size + rows[to]!.length <= (limit.bytes ?? 32 * 1024 * 1024))
        )
          size += rows[to++]!.length
        chunks.push([from, to])
        from = to
      }
      chunks.forEach(([from, to], chunk) => {
        const name = `${this.life}/${this.id}/${this.epoch + 1}/${plan.outputs[i]!.name}/${chunk}`
        let oldest = Number.POSITIVE_INFINITY
        let newest = Number.NEGATIVE_INFINITY
        let arrived = Number.POSITIVE_INFINITY
        for (let row = from; row < to; row++) {
          const time = times[row]!
          if (time < oldest) oldest = time
          if (time > newest) newest = time
          if (arrivals[row]! < arrived) arrived = arrivals[row]!
        }
        const step = Math.max(1, Math.floor((to - from) / 16))
        const samples: { time: number; arrived: number }[] = []
        for (let row = from; row < to; row += step) samples.push({ time: times[row]!, arrived: arrivals[row]! })
        const body = Buffer.from(rows.slice(from, to).join(''))
        made.push({
          batch: {
            name,
            sink: plan.outputs[i]!.name,
            head: staging.encoder.head,
            rows: to - from,
            body,
            stagedAt: runtime.now(),
            oldest,
            newest,
            arrived,
          },
          lane: this.lanes[i]!,
          samples,
        })
      })
    })
    return made
  }

  /**
   * Hands the epoch to the store, and lets the next one begin while the store writes. The epoch after that waits: nothing
   * is committed upon what is not known to be.
   */
  private async commitEpoch(): Promise<void> {
    const seal = this.sealEpoch()
    await this.settled()
    // what is being noted without an epoch may fail, and must not be overtaken
    const lanes = this.noting ? [] : this.pending.splice(0)
    const noted = this.noting ? [] : this.pendingLetters.splice(0)
    const change = { ...seal.change, lanes, deadLetters: [...seal.change.deadLetters, ...noted] }
    const committing = this.commit(change).then((result) => {
      if (result.kind === 'failed') this.giveBack(lanes, noted)
      this.committed(seal, result)
    })
    committing.catch(() => undefined)
    this.committing = committing
  }

  /** Waits until the last epoch that was handed over is durable. @throws MillraceError when it is not */
  private async settled(): Promise<void> {
    await this.committing
    this.committing = undefined
  }

  /** Takes what the epoch has made out of the flow and its state. */
  private sealEpoch() {
    this.stageMarks()
    const made = this.batches()
    this.clearStaging()
    const staged = made.filter(({ batch, lane }) => this.fits(batch, lane))
    const blobs: StateBlob[] = []
    const changed: (typeof this.structures)[number][] = []
    for (const structure of this.structures) {
      const bytes = structure.state.delta()
      structure.state.sealed()
      if (bytes === undefined) continue
      blobs.push({ slot: structure.slot, format: structure.state.format, bytes })
      changed.push(structure)
    }
    this.journal.clear()
    const installing = this.installable.splice(0)
    const deadLetters = this.letters
    this.letters = []
    const change = {
      epoch: ++this.epoch,
      facts: JSON.stringify(this.facts()),
      blobs,
      staged: staged.map(({ batch }) => batch),
      deadLetters,
      compactions: installing.map(({ compaction }) => compaction),
      ...(this.begun ? {} : { dropSlots: this.dropped, renameSlots: this.renamed }),
    }
    this.begun = true
    for (const position of this.positions) position.raw = undefined
    const horizon = Math.min(...this.flow.segments.map((segment) => segment.clock.watermark))
    const positions = this.positionsNow()
    return { change, staged, changed, installing, horizon, positions }
  }

  /** The store's answer: what was staged is delivered. */
  private committed(seal: ReturnType<Task['sealEpoch']>, result: CommitResult): void {
    const { change, staged, changed, installing, horizon } = seal
    if (result.kind === 'fenced')
      throw new MillraceError('FENCED', `${this.id}: another worker has opened this task; this one stops`)
    if (result.kind === 'failed') throw result.error
    if (result.kind === 'unknown')
      throw new MillraceError(
        'STATE_FAILED',
        `${this.id}: it is not known whether epoch ${change.epoch} was committed (${result.reason}); start again: the store knows`,
      )
    this.epochs++
    this.durable = { epoch: change.epoch, positions: seal.positions }
    this.options.committed?.()
    changed.forEach(({ blobs }, i) => {
      blobs.push(weightOf(result.blobs[i]!, change.blobs[i]!))
    })
    installing.forEach(({ slot, compaction }, i) => {
      const structure = this.structures.find((s) => s.slot === slot)!
      const at = structure.blobs.findIndex((blob) => blob.id === compaction.replaces[0])
      const by = compaction.bytes ? [weightOf(result.compacted[i]!, { ...compaction, bytes: compaction.bytes })] : []
      structure.blobs.splice(at, compaction.replaces.length, ...by)
      this.compacting = false
    })
    for (const { batch, lane, samples } of staged) lane.add(batch, samples)
    this.compact(horizon)
  }

  /** Whether a lane takes a batch; the rows of one that it does not take are set aside in the same commit. */
  private fits(batch: StagedBatch, lane: Lane): boolean {
    const bound = this.bounds[this.lanes.indexOf(lane)]!
    if (!bound.park || (lane.bytes + batch.body.length <= bound.bytes && batch.stagedAt - lane.oldest < bound.age)) {
      lane.expect(batch)
      return true
    }
    const letters = rowLetters(batch, batch.body, `the lane is full, and whenFull is 'park'`, batch.stagedAt)
    this.letters.push(...letters)
    this.totals.deadLetters += letters.length
    lane.state = 'parked'
    return false
  }

  /** Merges what has piled up in one slot, off the main thread; it is installed with a later commit. */
  private compact(horizon: number): void {
    if (this.compacting) return
    for (const structure of this.structures) {
      const ids = planCompaction(structure.blobs, { horizon, live: structure.state.live })
      if (!ids) continue
      this.compacting = true
      const oldest = structure.blobs[0]!.id === ids[0]
      const { slot } = structure
      const { format } = structure.state
      this.options.store
        .merge(this.id, {
          slot,
          format,
          blobs: ids,
          oldest,
          horizon: Number.isFinite(horizon) ? horizon : Number.NEGATIVE_INFINITY,
        })
        .then((merged) => {
          this.installable.push({
            slot,
            compaction: { slot, format, replaces: ids, ...(merged ? { bytes: merged } : {}) },
          })
        })
        .catch((error) => {
          this.compacting = false
          this.options.logger.warn({ slot }, `state could not be compacted: ${messageOf(error)}`)
        })
      return
    }
  }

  private facts(): Facts {
    const { plan, sources, sinks } = this.options
    for (const position of this.positions) {
      if (position.raw) position.last = { position: position.raw.position, checksum: crc32(position.raw.bytes()) }
    }
    return {
      format: 1,
      slots: plan.slots,
      sources: Object.fromEntries(
        sources.map((source, i): [string, StoredSource] => {
          const clock = this.clocks[i]!
          const { next, last, writers } = this.positions[i]!
          const had = writers.stored()
          return [
            source.name,
            {
              identity: source.open.identity,
              partitions: source.open.partitions,
              next,
              last,
              maxTime: stored(clock.maxTime),
              watermark: stored(clock.watermark),
              lastArrival: clock.lastArrival,
              ...(had && { writers: had }),
              sealed: clock.sealed,
              ...(clock.marks ? { marks: clock.marks.map((mark) => (mark === undefined ? 'unheard' : mark)) } : {}),
            },
          ]
        }),
      ),
      sinks: Object.fromEntries(plan.outputs.map((output, i) => [output.name, sinks[i]!.open.identity])),
      version: this.version,
      totals: {
        read: this.previous.read + this.totals.read,
        deadLetters: this.previous.deadLetters + this.totals.deadLetters,
        duplicates: this.previous.duplicates + this.totals.duplicates,
        late: this.previous.late + this.totals.late,
      },
      watermarks: this.flow.segments.map((segment) => stored(segment.clock.watermark)),
      ...(this.proven || this.opened.deaths <= 1 ? {} : { deaths: this.opened.deaths }),
      ...(this.proven || !this.trial ? {} : { trial: this.trial }),
      ...(this.mark === undefined ? {} : { mark: this.mark }),
    }
  }

  /** What producers had said; what ended and is open again stands where its last record stood. */
  private storedMarks(producers: number, { marks = [], maxTime }: StoredSource, sealed: boolean): (Mark | undefined)[] {
    return Array.from({ length: producers }, (_, i) => {
      const mark = marks[i]
      if (mark === undefined || mark === 'unheard') return undefined
      return mark === 'end' && !sealed && this.options.reopen ? maxTime : mark
    })
  }

  private positionsNow(): Durable['positions'] {
    return this.positions.map(({ next, last }) => (next === 0 && !last ? undefined : { next, last: last?.position }))
  }

  private dropped: string[] = []
  private renamed: Record<string, string> = {}

  /** Refuses to start over state, batches or positions that today's pipeline would orphan. */
  private check(facts: Facts): void {
    const { plan, sources, sinks, dropState, renameState, toDeadLetters } = this.options
    for (const [slot, kind] of Object.entries(facts.slots)) {
      const [operator = '', piece = ''] = split(slot)
      if (plan.slots[slot] === kind) continue
      const target = renameState[operator]
      if (target !== undefined && plan.slots[`${target}/${piece}`] === kind) this.renamed[slot] = `${target}/${piece}`
      else if (dropState.includes(operator)) this.dropped.push(slot)
      else {
        throw new MillraceError(
          'TOPOLOGY_CHANGED',
          `${this.id}: the store holds state of the operator "${operator}" (${kind}), which the pipeline no longer has. If it was renamed, start with --rename-state ${operator}=NEWNAME; if it is no longer wanted, with --drop-state ${operator}`,
        )
      }
    }
    for (const source of sources) {
      const known = facts.sources[source.name]
      if (!known) continue
      if (known.identity !== source.open.identity) {
        throw new MillraceError(
          'SOURCE_CHANGED',
          `source "${source.name}" is ${source.open.identity}, but the stored position belongs to ${known.identity}. Use the same one, another --data directory, or give the source another name`,
        )
      }
      if (known.partitions !== source.open.partitions) {
        throw new MillraceError(
          'SOURCE_CHANGED',
          `source "${source.name}" has ${source.open.partitions} partitions, but had ${known.partitions} when its position was stored: keys would move to other tasks. Use another --data directory, or restore the partition count`,
        )
      }
    }
    const gone = Object.keys(facts.sources).find((name) => !sources.some((source) => source.name === name))
    if (gone !== undefined)
      throw new MillraceError(
        'TOPOLOGY_CHANGED',
        `${this.id}: the pipeline no longer reads the source "${gone}", of which a position is stored. Give it back, or use another --data directory`,
      )
    if (toDeadLetters) return
    for (const { sink } of this.opened.batches) {
      const i = plan.outputs.findIndex((output) => output.name === sink)
      if (i < 0)
        throw new MillraceError(
          'TOPOLOGY_CHANGED',
          `${this.id}: batches are staged for the output "${sink}", which the pipeline no longer has. Finish them with the former version, or start with --to-dead-letters`,
        )
      if (facts.sinks[sink] !== sinks[i]!.open.identity) {
        throw new MillraceError(
          'SINK_CHANGED',
          `output "${sink}" is ${sinks[i]!.open.identity}, but batches are staged for ${facts.sinks[sink]}. Finish them with the former version, or start with --to-dead-letters`,
        )
      }
    }
  }

  /** Makes dead letters of what is staged for outputs that are gone, or for another system than today's. */
  private async setAside(facts: Facts): Promise<void> {
    const { plan, sinks, store, runtime } = this.options
    const kept: StoredBatch[] = []
    for (const batch of this.opened.batches) {
      const i = plan.outputs.findIndex(({ name }) => name === batch.sink)
      if (i >= 0 && facts.sinks[batch.sink] === sinks[i]!.open.identity) {
        kept.push(batch)
        continue
      }
      const reason = `it was staged for ${facts.sinks[batch.sink]}, which the pipeline no longer has (--to-dead-letters)`
      const deadLetters = rowLetters(batch, await store.body(this.id, batch.name), reason, runtime.now())
      const result = await this.commit({ lanes: [{ sink: batch.sink, remove: [batch.name] }], deadLetters })
      if (result.kind !== 'committed') throw notRecorded(result, 'what was set aside')
      this.totals.deadLetters += deadLetters.length
    }
    this.opened = { ...this.opened, batches: kept }
  }

  private stateOf(node: PlanNode, clock: { watermark: number }): Record<string, unknown> {
    if (node.node.kind !== 'operator') return {}
    const made: Record<string, unknown> = {}
    for (const [piece, declaration] of Object.entries(node.node.definition.state ?? {})) {
      const slot = `${node.name}/${piece}`
      const before = Object.entries(this.renamed).find(([, to]) => to === slot)?.[0] ?? slot
      const { store, cache } = this.options
      const file = cache && {
        path: join(cache.directory, encodeURIComponent(`${this.id}/${slot}`)),
        bytes: cache.bytes,
      }
      const state = createState(declaration, {
        name: slot,
        clock,
        journal: this.journal,
        secret: store.secret,
        cache: file,
      })
      const blobs = this.opened.blobs.filter((blob) => blob.slot === before)
      state.load(blobs)
      this.structures.push({ slot, state, blobs: blobs.map((blob) => weightOf(blob.id, blob)) })
      made[piece] = state
    }
    return made
  }

  private commit(change: Omit<Change, 'task' | 'fence'>): Promise<CommitResult> {
    if (this.killed.signal.aborted && change.epoch === undefined) return Promise.resolve({ kind: 'fenced' })
    return this.options.store.commit({ task: this.id, fence: this.opened.fence, ...change })
  }

  /** Commits what lanes have done, when no epoch is there to take it along. */
  private flush(): Promise<void> {
    this.flushing = this.flushing.then(() => this.flushPending())
    return this.flushing
  }

  private async flushPending(): Promise<void> {
    if (this.pending.length === 0) return
    const lanes = this.pending.splice(0)
    const deadLetters = this.pendingLetters.splice(0)
    this.noting = true
    const result = await this.options.store.commit({ task: this.id, fence: this.opened.fence, lanes, deadLetters })
    this.noting = false
    if (result.kind === 'failed') this.giveBack(lanes, deadLetters)
    if (result.kind !== 'committed' && !this.killed.signal.aborted) throw notRecorded(result, 'what was delivered')
  }

  /** What lanes have done is noted in its order, or not at all: a later receipt must not stand beside an earlier batch. */
  private giveBack(lanes: readonly LaneChange[], letters: readonly DeadLetter[]): void {
    this.pending.unshift(...lanes)
    this.pendingLetters.unshift(...letters)
  }

  private laneHost(): LaneHost {
    const { store, runtime, logger } = this.options
    return {
      task: this.id,
      store,
      runtime,
      logger,
      closing: this.closing.signal,
      signal: this.killed.signal,
      commit: (change) => this.commit(change),
      later: (change, letters) => {
        this.pending.push(change)
        this.pendingLetters.push(...letters)
        this.totals.deadLetters += letters.length
        if (!this.committing) void this.flush().catch((error) => this.fail(error))
      },
      setAside: (rows) => {
        this.totals.deadLetters += rows
      },
      progressed: () => this.wake?.(),
      failed: (error) => this.fail(error),
    }
  }
}

/** Whether an element of a channel brings no record, but says how far its producer has come. */
function isMark({ carried }: Element): boolean {
  return carried !== undefined && carried.cause === undefined
}

/** Whether all tasks that feed a channel have ended. */
function hasEnded(clock: SourceClock): boolean {
  return clock.marks !== undefined && clock.watermark === Number.POSITIVE_INFINITY
}

function weightOf(id: number, { format, bytes }: Pick<StateBlob, 'format' | 'bytes'>): BlobWeight {
  return { id, bytes: bytes.length, expires: expiryOf(format, bytes) }
}

function split(slot: string): [string, string] {
  const at = slot.lastIndexOf('/')
  return [slot.slice(0, at), slot.slice(at + 1)]
}

/** JSON has no infinities: minus infinity is null, infinity the largest number. */
function stored(time: number): number | null {
  return time === Number.NEGATIVE_INFINITY ? null : Math.min(time, Number.MAX_VALUE)
}

function unstored(time: number | null | undefined): number {
  if (time === null || time === undefined) return Number.NEGATIVE_INFINITY
  return time === Number.MAX_VALUE ? Number.POSITIVE_INFINITY : time
}
