import { join } from 'node:path'
import { MillraceError, messageOf } from './errors.ts'
import type { Logger } from './logger.ts'
import { measure } from './measure.ts'
import type { Metrics } from './metrics.ts'
import { type Pipeline, planOf } from './pipeline.ts'
import { QuantileSketch } from './quantiles.ts'
import type { Runtime } from './runtime.ts'
import { sharing } from './share.ts'
import { SinkHost } from './sink-host.ts'
import type { ConnectorContext, OpenSource, Source } from './source.ts'
import type { SinkStatus, SourceStatus, WorkerStatus } from './status.ts'
import type { Store } from './store.ts'
import { type EpochBounds, Task, type TaskSource } from './task.ts'

export interface WorkerOptions {
  readonly pipeline: Pipeline
  readonly store: Store
  /** The folder that stand-ins keep their files in. */
  readonly dataDir: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly runtime: Runtime
  readonly logger: Logger
  readonly metrics: Metrics
  /** Read what the sources have now, and end. */
  readonly untilEnd?: boolean
  /** Read on past the seal of a source that had ended. */
  readonly reopen?: boolean
  /** Reach people. */
  readonly live?: boolean
  /** Refuse every stand-in. */
  readonly requireReal?: boolean
  /** Systems whose stand-in is wanted although others are real. */
  readonly standIns?: readonly string[]
  /** Sources that take the place of the pipeline's own, by their names. */
  readonly inputs?: Readonly<Record<string, Source>>
  readonly dropState?: readonly string[]
  readonly renameState?: Readonly<Record<string, string>>
  readonly toDeadLetters?: boolean
  /** Bounds of an epoch that are tighter than the engine's own. */
  readonly epoch?: EpochBounds
  /** Whether tables may put what is cold into files under `dataDir`. @default true */
  readonly cache?: boolean
}

export interface Worker {
  status(): WorkerStatus
  /** Resolves at the end, or after a drain; rejects with the MillraceError that stopped it. */
  readonly done: Promise<WorkerStatus>
  /** Stops taking, finishes the epochs under way, delivers what can be delivered soon, and ends. */
  drain(): Promise<void>
  /** Ends now: what is under way is given up, and taken up again at the next start. */
  abort(): Promise<void>
}

/** Bytes of tables' values that a worker keeps in memory; what is colder is read from the cache, page by page. */
const STATE_MEMORY = 512 * 1024 * 1024

/** Milliseconds that a system may take to come up: pipelines and their systems are started together. */
const PATIENCE = 30_000

/**
 * Runs a pipeline: opens its sources and sinks, one task a partition, and works until the sources end or it is stopped.
 *
 * @throws MillraceError when anything stored, or any system, does not fit the pipeline
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { pipeline, store, runtime, logger, metrics, inputs = {}, untilEnd = false } = options
  const { plan, maxPoison, drain } = planOf(pipeline)
  const started = runtime.elapsed()
  const unknown = Object.keys(inputs).find((name) => !plan.sources.some((source) => source.name === name))
  if (unknown !== undefined) {
    throw new MillraceError(
      'BAD_OPTION',
      `pipeline "${pipeline.name}" has no source "${unknown}": it reads ${plan.sources.map((source) => source.name).join(', ')}`,
    )
  }
  const context: ConnectorContext = {
    pipeline: pipeline.name,
    dataDir: options.dataDir,
    env: options.env,
    live: options.live ?? false,
    runtime,
    logger,
    metrics,
    share: sharing(),
  }
  const sources: TaskSource[] = []
  const hosts: SinkHost[] = []
  const closeAll = async () => {
    await Promise.allSettled([
      ...sources.map((source) => source.open.close()),
      ...hosts.map((host) => host.open.close()),
    ])
  }
  let state: WorkerStatus['state'] = 'starting'
  let tasks: Task[] = []
  let failure: unknown
  try {
    for (const { node, name } of plan.sources) {
      const { options: given, lateness } = node
      const source = inputs[name] ?? node.source
      const open = await patiently(() => source.open(context, { untilEnd }), runtime, logger)
      const { validate } = given.schema['~standard']
      sources.push({
        name,
        open,
        lateness,
        key: given.key,
        time: given.time,
        validate: (value) => valid(validate(value)),
      })
    }
    const partitions = sources[0]!.open.partitions
    const other = sources.find((source) => source.open.partitions !== partitions)
    if (other) {
      throw new MillraceError(
        'BAD_PIPELINE',
        `pipeline "${pipeline.name}": source "${other.name}" has ${other.open.partitions} partitions, and "${sources[0]!.name}" has ${partitions}: sources that meet in one pipeline must have as many`,
      )
    }
    for (const output of plan.outputs) {
      const rowSchema = schemaOf(output.node.input)
      const own = { ...context, output: output.name, ...(rowSchema ? { rowSchema } : {}) } as ConnectorContext
      const open = await patiently(() => output.node.to.open(own), runtime, logger)
      hosts.push(new SinkHost(output.name, output.node.to, open, runtime))
    }
    refuseStandIns(
      options,
      plan.sources.map((s, i) => [(inputs[s.name] ?? s.node.source).system, sources[i]!.open] as const),
      plan.outputs.map((o, i) => [o.node.to.system, hosts[i]!.open] as const),
    )
    const tables = Math.max(1, Object.values(plan.slots).filter((kind) => kind === 'table').length)
    tasks = Array.from(
      { length: partitions },
      (_, partition) =>
        new Task({
          plan,
          partition,
          store,
          sources,
          sinks: hosts,
          runtime,
          logger,
          maxPoison,
          reopen: options.reopen ?? false,
          dropState: options.dropState ?? [],
          renameState: options.renameState ?? {},
          toDeadLetters: options.toDeadLetters ?? false,
          epoch: options.epoch,
          ...(options.cache === false
            ? {}
            : { cache: { directory: join(options.dataDir, 'cache'), bytes: STATE_MEMORY / (tables * partitions) } }),
          failed: (error) => {
            failure ??= error
            for (const task of tasks) task.stop()
          },
        }),
    )
    for (const task of tasks) await task.open()
  } catch (error) {
    for (const task of tasks) task.closeState()
    await closeAll()
    throw error
  }
  state = 'running'
  const draining = new AbortController()
  const lags = sources.map((): number | null => null)
  const measured = measure(metrics, pipeline.name)

  const sample = async () => {
    for (let i = 0; i < sources.length; i++) {
      const left = await Promise.all(tasks.map((task) => task.readers[i]!.lag().catch(() => undefined)))
      lags[i] = left.some((lag) => lag === undefined) ? null : left.reduce((sum: number, lag) => sum + lag!, 0)
    }
  }
  const watch = async () => {
    while (state === 'running') {
      await sample()
      measured(status())
      await runtime.sleep(1_000, draining.signal)
    }
  }

  const work = async (): Promise<WorkerStatus> => {
    void watch()
    await Promise.all(tasks.map((task) => task.run()))
    if (failure === undefined) {
      const limit = new AbortController()
      draining.signal.addEventListener(
        'abort',
        () => void runtime.sleep(drain, limit.signal).then(() => limit.abort()),
        { once: true },
      )
      if (draining.signal.aborted) void runtime.sleep(drain, limit.signal).then(() => limit.abort())
      await Promise.all(tasks.map((task) => task.delivered(limit.signal)))
      limit.abort()
    }
    await sample()
    state = failure === undefined ? 'ended' : 'failed'
    const last = status()
    draining.abort()
    await Promise.all(tasks.map((task) => task.close()))
    await closeAll()
    measured(last)
    if (failure !== undefined)
      throw failure instanceof MillraceError
        ? failure
        : new MillraceError('INTERNAL', messageOf(failure), { cause: failure })
    return last
  }

  const status = (): WorkerStatus => {
    const sum = (of: (task: Task) => number) => tasks.reduce((total, task) => total + of(task), 0)
    const now = runtime.now()
    return {
      pipeline: pipeline.name,
      state,
      read: sum((task) => task.totals.read),
      deadLetters: sum((task) => task.totals.deadLetters),
      duplicates: sum((task) => task.totals.duplicates),
      late: sum((task) => task.totals.late),
      epochs: sum((task) => task.epochs),
      seconds: (runtime.elapsed() - started) / 1_000,
      sources: Object.fromEntries(
        sources.map(({ name, open }, i): [string, SourceStatus] => [
          name,
          {
            read: sum((task) => task.readBySource[i]!),
            lag: lags[i]!,
            unit: open.unit,
            standIn: open.standIn ?? null,
            partitions: open.partitions,
            ended: tasks.every((task) => task.ended),
            paused: tasks.some((task) => task.paused),
          },
        ]),
      ),
      sinks: Object.fromEntries(
        hosts.map((host, i): [string, SinkStatus] => {
          const lanes = tasks.map((task) => task.lanes[i]!)
          const oldest = Math.min(...lanes.map((lane) => lane.oldest))
          return [
            host.name,
            {
              rows: host.rows,
              batches: host.batches,
              rejected: host.rejected,
              stagedBatches: lanes.reduce((total, lane) => total + lane.length, 0),
              stagedBytes: lanes.reduce((total, lane) => total + lane.bytes, 0),
              stagedAge: oldest === Number.POSITIVE_INFINITY ? 0 : Math.max(0, now - oldest),
              state: lanes.some((lane) => lane.state === 'parked')
                ? 'parked'
                : lanes.some((lane) => lane.state === 'retrying')
                  ? 'retrying'
                  : 'ready',
              problem: host.problem,
              standIn: host.open.standIn ?? null,
              guarantee: host.guarantee,
              outcomes: { ...host.outcomes },
              freshness: host.freshness.quantiles,
              latency: host.latency.quantiles,
            },
          ]
        }),
      ),
      freshness: together(hosts.map((host) => host.freshness)),
      latency: together(hosts.map((host) => host.latency)),
    }
  }

  const done = work()
  done.catch(() => undefined)
  return {
    status,
    done,
    async drain() {
      if (state === 'running') state = 'draining'
      draining.abort()
      for (const task of tasks) task.stop()
      await done.catch(() => undefined)
    },
    async abort() {
      draining.abort()
      await Promise.all(tasks.map((task) => task.close()))
      await done.catch(() => undefined)
    },
  }
}

/** Opens a source or a sink; a failure that may go by is tried again for a while. */
async function patiently<O>(open: () => Promise<O>, runtime: Runtime, logger: Logger): Promise<O> {
  const end = runtime.elapsed() + PATIENCE
  for (let wait = 250; ; wait *= 2) {
    try {
      return await open()
    } catch (error) {
      const retriable = error instanceof MillraceError && error.retriable
      if (!retriable || runtime.elapsed() + wait > end) throw error
      logger.warn({ retryIn: wait }, `${messageOf(error)}; trying again`)
      await runtime.sleep(wait * (0.5 + runtime.random() / 2))
    }
  }
}

function valid(result: unknown): unknown {
  const { issues, value } = result as {
    issues?: readonly { message: string; path?: readonly unknown[] }[]
    value?: unknown
  }
  if (result instanceof Promise)
    throw new MillraceError('BAD_PIPELINE', 'a source schema must not be asynchronous: check such things with mapAsync')
  if (!issues) return value
  const shown = issues.slice(0, 3).map(({ message, path = [] }) => {
    const where = path
      .map((step) => (typeof step === 'object' && step !== null && 'key' in step ? String(step.key) : String(step)))
      .join('.')
    return where === '' ? message : `${where}: ${message}`
  })
  throw new MillraceError('UNDECODABLE', shown.join('; '))
}

/** The schema that rows still match: the source's, as long as only operators that pass values on stand between. */
function schemaOf(node: unknown): unknown {
  const at = node as { kind: string; input?: unknown; options?: { schema: unknown }; definition?: { kind: string } }
  if (at.kind === 'source') return at.options!.schema
  if (at.kind === 'operator' && ['dedup', 'filter', 'tap'].includes(at.definition!.kind)) return schemaOf(at.input)
  return undefined
}

type Opened = readonly [system: string | undefined, open: OpenSource | SinkHost['open']]

/** Engine rule 27: with one real connector in a run, a stand-in must be named. */
function refuseStandIns(
  { requireReal, standIns = [] }: WorkerOptions,
  sources: readonly Opened[],
  sinks: readonly Opened[],
): void {
  const all = [...sources, ...sinks].filter(([system]) => system !== undefined)
  const real = all.find(([, open]) => open.standIn === undefined)
  for (const [system, open] of all) {
    if (open.standIn === undefined || standIns.includes(system!)) continue
    if (requireReal)
      throw new MillraceError(
        'STAND_IN_REFUSED',
        `${system}: only ${open.standIn} could be had, and --require-real refuses it: name the real system in the environment or the options`,
      )
    if (real)
      throw new MillraceError(
        'STAND_IN_REFUSED',
        `${system}: the run uses a real ${real[0]}, but for ${system} only ${open.standIn}: name the real system, or say --stand-in ${system}`,
      )
  }
}

function together(sketches: readonly QuantileSketch[]): { p50: number | null; p99: number | null } {
  const all = new QuantileSketch()
  for (const sketch of sketches) all.addAll(sketch)
  return all.quantiles
}
