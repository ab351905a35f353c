import { describe } from '../core/compaction.ts'
import { silentLogger } from '../core/logger.ts'
import { createMetrics } from '../core/metrics.ts'
import type { Pipeline } from '../core/pipeline.ts'
import type { RowMeta, Sink, Outcome as SinkOutcome } from '../core/sink.ts'
import type { EpochBounds } from '../core/task.ts'
import { startWorker, type Worker, type WorkerOptions } from '../core/worker.ts'
import { ChannelMemory, memoryChannels } from '../embedded/memory-channels.ts'
import { MemoryDisk, memoryStore } from '../state/memory.ts'
import { type ListSource, listSource } from './list-source.ts'
import { type ManualRuntime, manualRuntime, turn } from './manual-runtime.ts'

/** A row as it reached a sink. */
export interface Row {
  readonly key: string
  readonly time: number
  readonly value: any
  readonly cause: string
}

/** What is seen of a trial from outside: two trials on the same input must agree in all of it. */
export interface Outcome {
  /** Rows in the order of their delivery, by `output/partition`. */
  readonly rows: Readonly<Record<string, readonly Row[]>>
  /** Dead letters, sorted. */
  readonly letters: readonly string[]
  /** What is kept, by `slot/partition`, sorted. */
  readonly state: Readonly<Record<string, readonly string[]>>
  /** Positions, watermarks and counts of each task. */
  readonly facts: readonly unknown[]
}

export interface TrialOptions {
  /** Makes the pipeline anew at each start. `to` is the only sink that it may use. */
  pipeline(to: Sink<any>): Pipeline
  /** The records of each source, by partition. */
  inputs: Readonly<Record<string, readonly (readonly unknown[])[]>>
  /** Where epochs end, drawn anew for each. @default where the engine ends them */
  epoch?: () => EpochBounds
  /** Whether the process dies before this commit, counted over all lives from 1, is durable. @default never */
  dies?: (commit: number) => boolean
  /** What a sink answers, of the first attempt at a batch on; undefined: it is applied. */
  answer?: (output: string) => { readonly took: boolean; readonly outcome: SinkOutcome } | undefined
  /** Epoch milliseconds at which the clock begins. */
  start?: number
  disk?: MemoryDisk
  worker?: Partial<WorkerOptions>
}

/** A pipeline at work on lists, in memory, under a clock of its own: cut, killed and started again as a test wants. */
export class Trial {
  readonly runtime: ManualRuntime
  readonly disk: MemoryDisk
  readonly sources: Readonly<Record<string, ListSource>>
  /** Epochs that became durable. */
  commits = 0
  deaths = 0
  failure: unknown
  private readonly options: TrialOptions
  private readonly channels = new ChannelMemory()
  private readonly delivered = new Map<string, string>()
  private readonly rows: Record<string, Row[]> = {}
  private events = 0
  private attempted = 0
  private life = 0
  private worker: Worker | undefined

  constructor(options: TrialOptions) {
    this.options = options
    this.runtime = manualRuntime(options.start)
    this.disk = options.disk ?? new MemoryDisk()
    this.sources = Object.fromEntries(
      Object.entries(options.inputs).map(([name, lists]) => [name, listSource(name, lists)]),
    )
  }

  /** Runs until there is nothing left to do; whenever the process dies, it is started again. */
  async settle(): Promise<void> {
    let quiet = 0
    while (quiet < 3) {
      if (!this.worker) await this.start()
      const before = this.events + this.runtime.naps
      await turn()
      quiet = this.worker && before === this.events + this.runtime.naps ? quiet + 1 : 0
      if (this.failure) throw this.failure
    }
  }

  /** Ends all sources, and runs until all that they gave is delivered. */
  async finish(): Promise<void> {
    for (const source of Object.values(this.sources)) source.end()
    await this.settle()
  }

  /** Moves the clock while the pipeline runs, by strides of at most so many milliseconds. */
  async advance(ms: number, stride?: number): Promise<void> {
    await this.runtime.advance(ms, stride)
    await this.settle()
  }

  /** Kills the process between two commits. */
  die(): void {
    this.disk.crash()
    this.life++
    this.deaths++
    this.worker = undefined
  }

  async drain(): Promise<void> {
    const drained = this.worker?.drain()
    await this.runtime.advance(20_000)
    await drained
    this.worker = undefined
  }

  outcome(): Outcome {
    const state: Record<string, string[]> = {}
    const facts: unknown[] = []
    for (const task of this.disk.tasks()) {
      const stored = this.disk.task(task)!
      const partition = task.split('/').at(-1)
      const { sources, totals, watermarks = [] } = JSON.parse(stored.facts ?? '{}')
      facts.push({ sources, totals, watermarks })
      const watermark = Math.min(...watermarks.map((mark: number | null) => mark ?? Number.NEGATIVE_INFINITY))
      const blobs = [...stored.blobs.values()].sort((a, b) => a.order - b.order)
      for (const [slot, own] of Map.groupBy(blobs, (blob) => blob.slot)) {
        const entries = describe(
          own[0]!.format,
          own.map(({ bytes }) => bytes),
          { watermark },
        )
        const shown = [...entries].map((entry) => JSON.stringify(entry)).sort()
        if (shown.length > 0) state[`${slot}/${partition}`] = shown
      }
    }
    const letters = this.disk.deadLetters.map(
      ({ task, source, position, where, code }) => `${task} ${source} ${position} ${where} ${code}`,
    )
    return { rows: this.rows, letters: letters.sort(), state, facts }
  }

  /** The values that reached an output, over all partitions. */
  values(output: string): any[] {
    return Object.entries(this.rows).flatMap(([name, rows]) =>
      name.startsWith(`${output}/`) ? rows.map(({ value }) => value) : [],
    )
  }

  private async start(): Promise<void> {
    const { pipeline, epoch, dies = () => false } = this.options
    const life = this.life
    const store = memoryStore({
      disk: this.disk,
      flush: (changes) => {
        this.events++
        for (const { epoch } of changes) {
          if (epoch === undefined) continue
          if (dies(++this.attempted)) {
            this.die()
            return 'committed'
          }
          this.commits++
        }
        return 'committed'
      },
    })
    const worker = await startWorker({
      pipeline: pipeline(this.sink(life)),
      store,
      dataDir: 'nowhere',
      env: {},
      runtime: this.runtime,
      logger: silentLogger,
      metrics: createMetrics(),
      inputs: this.sources,
      channels: memoryChannels(this.channels, () => {
        if (life === this.life) this.events++
        return life === this.life
      }),
      ...(epoch ? { epoch: drawn(epoch) } : {}),
      ...this.options.worker,
    })
    worker.done.catch((error) => {
      if (life === this.life) this.failure = error
    })
    if (life === this.life) this.worker = worker
  }

  /** Keeps what is delivered, as a system that knows batches by their names: a repeat is the same, and changes nothing. */
  private sink(life: number): Sink<any> {
    return {
      kind: 'rows',
      guarantee: 'idempotent',
      touches: 'state',
      open: async ({ output }) => ({
        identity: `rows ${output}`,
        encoder: () => ({
          head: 'rows',
          row: (value, { key, time, cause }: RowMeta) => `${JSON.stringify({ key, time, value, cause })}\n`,
        }),
        deliver: async ({ name, task, body }) => {
          if (life !== this.life) return new Promise(() => undefined)
          this.events++
          const text = Buffer.from(body).toString()
          const known = this.delivered.get(name)
          if (known !== undefined && known !== text) {
            this.failure = new Error(`batch ${name} came again with other bytes`)
          }
          const answer = known === undefined ? this.options.answer?.(output!) : undefined
          if (answer && !answer.took) return answer.outcome
          if (known === undefined) {
            this.delivered.set(name, text)
            const rows = (this.rows[`${output}/${task.split('/').at(-1)}`] ??= [])
            for (const line of text.trimEnd().split('\n')) rows.push(JSON.parse(line))
          }
          return answer?.outcome ?? { kind: 'applied' }
        },
        close: async () => undefined,
      }),
    }
  }
}

/** Bounds that are drawn when an epoch begins, both at once. */
function drawn(draw: () => EpochBounds): EpochBounds {
  let bounds: EpochBounds
  return {
    get records() {
      bounds = draw()
      return bounds.records
    },
    get bytes() {
      return bounds.bytes
    },
  }
}
