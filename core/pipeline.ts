import { type Duration, milliseconds, shown } from './duration.ts'
import { MillraceError } from './errors.ts'
import { compile, type Plan } from './plan.ts'
import { stagesOf } from './stages.ts'
import type { Output, OutputNode } from './stream.ts'

export interface PipelineOptions {
  /** Share of the last 1,000 records of a partition that may be poison before the pipeline stops. @default 0.05 */
  maxPoison?: number
  /** Most time that a task waits for staged batches to be delivered when it is drained. @default '10s' */
  drain?: Duration
}

const PIPELINE = Symbol.for('millrace.pipeline')

/** A pipeline: what `millrace run` runs. */
export interface Pipeline<out O = unknown> {
  readonly name: string
  readonly outputs: O
}

/** What the engine keeps of a pipeline. */
export interface PipelinePlan {
  /** The whole of it. */
  readonly plan: Plan
  /** What runs as tasks, in the order in which records go through it. */
  readonly stages: readonly Plan[]
  readonly maxPoison: number
  /** Milliseconds that a drain waits for deliveries. */
  readonly drain: number
}

/**
 * Makes a pipeline of outputs. Their keys name the sinks' lanes: unique, and stable when lines are moved.
 *
 * @throws MillraceError BAD_PIPELINE when two stateful operators have one name, or an output is none
 */
export function pipeline<O extends Record<string, Output<unknown>>>(
  name: string,
  outputs: O,
  options: PipelineOptions = {},
): Pipeline<O> {
  const { maxPoison = 0.05 } = options
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) {
    throw new MillraceError(
      'BAD_OPTION',
      `pipeline: the name must be of small letters, digits and dashes, got ${shown(name)}`,
    )
  }
  if (!(maxPoison >= 0 && maxPoison <= 1)) {
    throw new MillraceError(
      'BAD_OPTION',
      `pipeline "${name}": maxPoison must be a share from 0 to 1, got ${shown(maxPoison)}`,
    )
  }
  const drain = milliseconds(options.drain ?? '10s', `pipeline "${name}": drain`)
  const plan = compile(name, outputs as unknown as Record<string, OutputNode>)
  const made = { name, outputs, [PIPELINE]: { plan, stages: stagesOf(plan), maxPoison, drain } satisfies PipelinePlan }
  return made
}

/** Whether a value is what `pipeline` made. */
export function isPipeline(value: unknown): value is Pipeline {
  return typeof value === 'object' && value !== null && PIPELINE in value
}

/** The plan of a pipeline. */
export function planOf(made: Pipeline): PipelinePlan {
  return (made as unknown as { [PIPELINE]: PipelinePlan })[PIPELINE]
}
