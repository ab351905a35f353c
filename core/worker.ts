import { cacheFolder } from './cache-folder.ts'
import type { Channels } from './channel.ts'
import { MillraceError, messageOf } from './errors.ts'
import type { Logger } from './logger.ts'
import { measure } from './measure.ts'
import type { Metrics } from './metrics.ts'
import { type Pipeline, planOf } from './pipeline.ts'
import type { Plan } from './plan.ts'
import { QuantileSketch } from './quantiles.ts'
import type { Runtime } from './runtime.ts'
import { sharing } from './share.ts'
import type { Source } from './source.ts'
import { type Fed, Stage, type StageTotals } from './stage.ts'
import type { SinkStatus, SourceStatus, WorkerStatus } from './status.ts'
import type { Store } from './store.ts'
import type { EpochBounds } from './task.ts'
import { Turns } from './turns.ts'

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
  /** How two stages of a pipeline are connected; needed where it has several. */
  readonly channels?: Channels
  /** How many workers share the pipeline's partitions, where that is known. @default 1 */
  readonly workers?: number
  /** Go on from a store that is older than its group was told, or another one. */
  readonly acceptOlderState?: boolean
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

/**
 * Runs a pipeline: opens the sources and sinks of its stages and their tasks, one a partition, and works until the
 * sources end or it is stopped.
 *
 * @throws MillraceError when anything stored, or any system, does not fit the pipeline
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { pipeline, store, runtime, logger, metrics, inputs = {}, untilEnd = false } = options
  const { plan, stages: plans, maxPoison, drain } = planOf(pipeline)
  const started = runtime.elapsed()
  const unknown = Object.keys(inputs).find((name) => !plan.sources.some((source) => source.name === name))
  if (unknown !== undefined) {
    throw new MillraceError(
      'BAD_OPTION',
      `pipeline "${pipeline.name}" has no source "${unknown}": it reads ${plan.sources.map((source) => source.name).join(', ')}`,
    )
  }
  await refuseLostStages(pipeline.name, plans, store)
  let state: WorkerStatus['state'] = 'starting'
  let failure: unknown
  const stages: Stage[] = []
  const failed = (error: unknown) => {
    failure ??= error
    for (const stage of stages) stage.stop()
  }
  const directory = options.cache === false ? undefined : cacheFolder(options.dataDir)
  const fed = new Map<string, Fed>()
  const turns = new Turns(runtime)
  try {
    for (const own of plans) {
      const stage = new Stage({
        plan: own,
        store,
        context: {
          pipeline: pipeline.name,
          stage: own.stage,
          dataDir: options.dataDir,
          env: options.env,
          live: options.live ?? false,
          runtime,
          logger,
          metrics,
          share: sharing(),
        },
        maxPoison,
        untilEnd,
        reopen: options.reopen ?? false,
        acceptOlder: options.acceptOlderState ?? false,
        dropState: options.dropState ?? [],
        renameState: options.renameState ?? {},
        toDeadLetters: options.toDeadLetters ?? false,
        epoch: options.epoch,
        inputs,
        channels: options.channels,
        turns,
        fed,
        ...(directory === undefined ? {} : { cache: { directory, bytes: STATE_MEMORY / plans.length } }),
        failed,
      })
      stages.push(stage)
      await stage.open()
      for (const [name, feed] of stage.feeds) fed.set(name, feed)
    }
    refuseStandIns(options, stages)
    refuseSharing(options, stages)
    for (const stage of stages) await stage.start()
  } catch (error) {
    for (const stage of stages) await stage.abandon()
    throw error
  }
  state = 'running'
  const draining = new AbortController()
  const measured = measure(metrics, pipeline.name)

  const sample = async () => {
    await Promise.all(stages.map((stage) => stage.sample()))
  }
  const watch = async () => {
    while (!draining.signal.aborted) {
      await sample()
      measured(status())
      await runtime.sleep(1_000, draining.signal)
    }
  }

  const work = async (): Promise<WorkerStatus> => {
    void watch()
    await Promise.all(stages.map((stage) => stage.run()))
    if (failure === undefined) {
      const limit = new AbortController()
      draining.signal.addEventListener(
        'abort',
        () => void runtime.sleep(drain, limit.signal).then(() => limit.abort('over')),
        { once: true },
      )
      if (draining.signal.aborted) void runtime.sleep(drain, limit.signal).then(() => limit.abort('over'))
      await Promise.all(stages.map((stage) => stage.delivered(limit.signal)))
      limit.abort('over')
    }
    await sample()
    state = failure === undefined ? 'ended' : 'failed'
    const last = status()
    draining.abort('ending')
    await Promise.all(stages.map((stage) => stage.close()))
    measured(last)
    if (failure !== undefined)
      throw failure instanceof MillraceError
        ? failure
        : new MillraceError('INTERNAL', messageOf(failure), { cause: failure })
    return last
  }

  const status = (): WorkerStatus => {
    const totals = stages.map((stage) => stage.totals())
    const sum = (of: (stage: StageTotals) => number) => totals.reduce((total, stage) => total + of(stage), 0)
    const hosts = stages.flatMap((stage) => stage.hosts)
    const now = runtime.now()
    return {
      pipeline: pipeline.name,
      state,
      read: sum(({ read }) => read),
      deadLetters: sum(({ deadLetters }) => deadLetters),
      duplicates: sum(({ duplicates }) => duplicates),
      late: sum(({ late }) => late),
      epochs: sum(({ epochs }) => epochs),
      seconds: (runtime.elapsed() - started) / 1_000,
      sources: Object.fromEntries(
        stages.flatMap((stage) => {
          const tasks = [...stage.tasks.values()]
          return stage.sources.map(({ name, open }, i): [string, SourceStatus] => [
            name,
            {
              read: stage.readOf(i),
              lag: stage.lags[i]!,
              unit: open.unit,
              standIn: open.standIn ?? null,
              partitions: open.partitions,
              assigned: tasks.length,
              opening: stage.opening,
              ended: tasks.every((task) => task.ended),
              paused: tasks.some((task) => task.paused),
            },
          ])
        }),
      ),
      sinks: Object.fromEntries(
        stages.flatMap((stage) => {
          const tasks = [...stage.tasks.values()]
          return stage.hosts.map((host, i): [string, SinkStatus] => {
            const lanes = tasks.flatMap((task) => task.lanes[i] ?? [])
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
                recent: {
                  freshness: host.recent.freshness.quantiles,
                  latency: host.recent.latency.quantiles,
                },
              },
            ]
          })
        }),
      ),
      strayKeys: Object.assign({}, ...stages.map(({ keys }) => keys?.strays)),
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
      draining.abort('ending')
      for (const stage of stages) stage.stop()
      await done.catch(() => undefined)
    },
    async abort() {
      draining.abort('ending')
      await Promise.all(stages.map((stage) => stage.close()))
      await done.catch(() => undefined)
    },
  }
}

/** Refuses to start over the state of a stage that the pipeline no longer has. */
async function refuseLostStages(name: string, plans: readonly Plan[], store: Store): Promise<void> {
  for (const task of await store.tasks()) {
    const [pipeline, stage] = task.split('/')
    if (pipeline !== name || plans.some((plan) => plan.stage === stage)) continue
    throw new MillraceError(
      'TOPOLOGY_CHANGED',
      `pipeline "${name}": the store holds the stage "${stage}", which the pipeline no longer has: what is on its way to it would be lost. Give the repartition its former name back, or finish with the former version and use another --data directory`,
    )
  }
}

/** Several workers need somebody who hands the partitions out, and a store that all of them reach. */
function refuseSharing({ pipeline, workers = 1, store }: WorkerOptions, stages: readonly Stage[]): void {
  if (workers === 1) return
  if (!store.shared)
    throw new MillraceError(
      'BAD_OPTION',
      `pipeline "${pipeline.name}": ${workers} workers need a store that all of them reach: name a Redis with --store redis://host:6379/0`,
    )
  for (const { plan, sources } of stages) {
    const alone = sources.find(({ open }) => !open.group)
    if (alone)
      throw new MillraceError(
        'BAD_OPTION',
        `pipeline "${pipeline.name}": ${workers} workers would each read all of "${alone.name}" (stage ${plan.stage}): only Kafka hands its partitions out. Run one worker, or name KAFKA_BROKERS`,
      )
  }
}

/** Engine rule 27: with one real connector in a run, a stand-in must be named. */
function refuseStandIns({ requireReal, standIns = [], inputs = {} }: WorkerOptions, stages: readonly Stage[]): void {
  const opened = stages.flatMap(({ plan, sources, hosts }) => [
    ...plan.sources.map(({ name, node }, i) => [(inputs[name] ?? node.source).system, sources[i]!.open] as const),
    ...hosts.map(({ sink, open }) => [sink.system, open] as const),
  ])
  const all = opened.filter(([system]) => system !== undefined)
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
