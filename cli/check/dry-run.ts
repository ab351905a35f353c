import { inspect } from 'node:util'
import { map as rxMap } from 'rxjs'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import {
  type Meta,
  type OperatorContext,
  type OperatorDefinition,
  type OperatorHandlers,
  splitKey,
  tie,
} from '../../core/operator.ts'
import { type Pipeline, pipeline, planOf } from '../../core/pipeline.ts'
import type { PlanNode, PlanOutput } from '../../core/plan.ts'
import { type Runtime, systemRuntime } from '../../core/runtime.ts'
import type { OpenSink, RowMeta, Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import { nodeOf, type OutputNode, type StreamNode, streamOf } from '../../core/stream.ts'
import { startWorker } from '../../core/worker.ts'
import { ChannelMemory, memoryChannels } from '../../embedded/memory-channels.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { deepFreeze } from './freeze.ts'
import type { Sample } from './samples.ts'

/** What is at work: a source's functions, an operator, or an output's encoder. */
export type At = PlanNode | PlanOutput

/** Told of what happens while a flow is tried. */
export interface DryRunWatch {
  /** What is at work from now on: the author's functions may be called. Undefined when it is the engine. */
  at(part: At | undefined): void
  threw(part: At, error: unknown): void
  /** A value that a source, an operator or an encoder gave. */
  gave(part: At, value: unknown): void
  /** Where an operator keeps something. */
  kept(node: PlanNode, key: { readonly key: string; readonly by: string }): void
  /** The key that a record had, and the one that `keyBy` gave it. */
  rekeyed(node: PlanNode, from: string, to: string): void
  /** What a source's `key` or `time` gave. */
  read(node: PlanNode, what: 'key' | 'time', value: unknown): void
}

export interface DryRunOptions {
  readonly pipeline: Pipeline
  readonly samples: Readonly<Record<string, Sample>>
  /** Encoders of outputs that have one without a system; the others are not tried. */
  readonly encoders: Readonly<Record<string, OpenSink<unknown>>>
  /** End an epoch after every record, and start again now and then. */
  readonly cut: boolean
  readonly watch: DryRunWatch
  /** What the clock says, epoch milliseconds. */
  readonly now: number
}

/** What each part gave for each element, as texts. */
export type Trace = ReadonlyMap<At, ReadonlyMap<string, readonly string[]>>

/** What came of a dry run. */
export interface DryRun {
  readonly trace: Trace
  /** Records that became dead letters, and where. */
  readonly letters: readonly { readonly source: string; readonly where: string; readonly reason: string }[]
}

/** How often a run that is cut starts anew. */
const LIVES = 4

/**
 * Runs a pipeline in the real engine on samples, on a store in memory, with a clock that stands still. Nothing leaves
 * it: sinks only encode, asynchronous calls are not made, and what functions get is frozen.
 *
 * @throws MillraceError FLOW_BROKE_RULES, and what else stops a run
 */
export async function dryRun(options: DryRunOptions): Promise<DryRun> {
  const { samples, cut, now } = options
  const disk = new MemoryDisk()
  const channels = new ChannelMemory()
  const trace = new Tracer()
  const lives = cut ? LIVES : 1
  for (let life = 1; life <= lives; life++) {
    const end = ({ records }: Sample, of: number) => Math.ceil((records.length * of) / lives)
    const inputs = Object.fromEntries(
      Object.entries(samples).map(([name, sample]) => [
        name,
        sampleSource(name, sample, life === lives ? undefined : end(sample, life)),
      ]),
    )
    const worker = await startWorker({
      pipeline: instrumented(options, trace),
      store: memoryStore({ disk }),
      dataDir: 'nowhere',
      env: {},
      runtime: standing(now),
      logger: silentLogger,
      metrics: createMetrics(),
      inputs,
      channels: memoryChannels(channels),
      ...(cut ? { epoch: { records: 1, bytes: 1 } } : {}),
    })
    if (life < lives) {
      const read = () =>
        Object.entries(samples).every(
          ([name, sample]) => worker.status().sources[name]!.read >= end(sample, life) - end(sample, life - 1),
        )
      const stopped = worker.done.then(() => true)
      while (!read() && !(await Promise.race([stopped, systemRuntime.sleep(2).then(() => false)])));
      await worker.drain()
    }
    await worker.done
  }
  return { trace: trace.given, letters: disk.deadLetters }
}

/** Collects what was given for an element; what a later attempt gives takes the place of what an earlier one gave. */
class Tracer {
  readonly given = new Map<At, Map<string, string[]>>()
  attempt = 0
  cause = ''
  private readonly attempts = new Map<string[], number>()

  add(part: At, value: string): void {
    const own = this.given.get(part) ?? new Map<string, string[]>()
    this.given.set(part, own)
    let values = own.get(this.cause)
    if (!values || this.attempts.get(values) !== this.attempt) {
      values = []
      own.set(this.cause, values)
      this.attempts.set(values, this.attempt)
    }
    values.push(value)
  }
}

/** The same pipeline, with the watch in all its parts. */
function instrumented({ pipeline: made, watch, encoders }: DryRunOptions, trace: Tracer): Pipeline {
  const { plan } = planOf(made)
  const planned = new Map(plan.nodes.map((node) => [node.node, node]))
  const done = new Map<StreamNode, StreamNode>()
  let current: At | undefined

  const within = <T>(part: At | undefined, work: () => T): T => {
    const before = current
    watch.at((current = part))
    try {
      return work()
    } catch (error) {
      if (part) watch.threw(part, error)
      throw error
    } finally {
      watch.at((current = before))
    }
  }
  const give = (part: At, value: unknown) => {
    watch.gave(part, value)
    trace.add(part, inspect(value, { depth: 8, maxArrayLength: 200 }))
  }

  const entering = (part: At, value: unknown) => {
    watch.at((current = part))
    return deepFreeze(value)
  }
  const leaving = (part: At, value: unknown) => {
    watch.at((current = undefined))
    give(part, value)
    return value
  }

  const visit = (node: StreamNode): StreamNode => {
    const known = done.get(node)
    if (known) return known
    const replaced = replace(node)
    done.set(node, replaced)
    return replaced
  }
  const replace = (node: StreamNode): StreamNode => {
    const part = planned.get(node)!
    switch (node.kind) {
      case 'source':
        return head(source(node, part), trace)
      case 'merge':
        return { ...node, inputs: node.inputs.map(visit) }
      case 'side': {
        return { ...node, of: visit(node.of) as StreamNode & { kind: 'operator' } }
      }
      case 'foreign':
        return {
          ...node,
          input: visit(node.input),
          label: foreignName(part),
          run: (values) =>
            node.run(values.pipe(rxMap((value) => entering(part, value)))).pipe(rxMap((value) => leaving(part, value))),
        }
      case 'operator': {
        const definition = operator(node.definition, part)
        return { ...node, input: visit(node.input), definition, run: tie((values) => values as never, definition) }
      }
    }
  }
  const source = (node: StreamNode & { kind: 'source' }, part: PlanNode): StreamNode => {
    const { options } = node
    const reading = (what: 'key' | 'time') => (value: unknown) => {
      const read = within(part, () => options[what](value))
      watch.read(part, what, read)
      return read
    }
    const validate = (value: unknown) => {
      const result = options.schema['~standard'].validate(value)
      if (!(result instanceof Promise) && !result.issues) deepFreeze(result.value)
      return result
    }
    const schema = { '~standard': { ...options.schema['~standard'], validate } }
    return { ...node, options: { ...options, schema, key: reading('key') as never, time: reading('time') as never } }
  }
  const operator = (definition: OperatorDefinition<any, any>, part: PlanNode): OperatorDefinition<any, any> => {
    const { work, ...rest } = definition
    let from = ''
    if (work) return { ...rest, start: () => ({ next: () => undefined }) }
    return {
      ...definition,
      ...(definition.right === undefined
        ? {}
        : { right: streamOf(visit(nodeOf(definition.right, `${definition.kind}: its second input`))) }),
      start: (context) => {
        const handlers = within(part, () => definition.start!(watched(context)))
        const taking = (take: (value: unknown, meta: Meta) => void) => (value: unknown, meta: Meta) => {
          trace.cause = causeOf(meta)
          from = meta.key
          within(part, () => take.call(handlers, deepFreeze(value), meta))
        }
        const { due, right } = handlers
        return {
          next: taking(handlers.next),
          ...(right ? { right: taking(right) } : {}),
          ...(due
            ? {
                due: (timer, meta, piece) => {
                  trace.cause = causeOf(meta)
                  within(part, () => due.call(handlers, timer, meta, piece))
                },
              }
            : {}),
        } satisfies OperatorHandlers<unknown>
      },
    }
    function watched(context: OperatorContext<any>): OperatorContext<any> {
      const keep = definition.keyed === 'by' ? (key: string) => watch.kept(part, splitKey(key)) : () => undefined
      const state = Object.entries(context.state).map(([name, piece]) => [name, frozenPiece(piece, keep)])
      return {
        ...context,
        state: Object.fromEntries(state),
        emit: (value, key) => {
          give(part, value)
          if (key !== undefined) watch.rekeyed(part, from, key)
          within(undefined, () => context.emit(value, key))
        },
        side: (name, value) => {
          give(part, value)
          within(undefined, () => context.side(name, value))
        },
      }
    }
  }

  const outputs = plan.outputs.map((output): [string, OutputNode] => {
    const { node, name } = output
    const encoder = encoders[name]?.encoder(`${made.name}/main/0`)
    const row = (value: unknown, meta: RowMeta) => {
      trace.cause = meta.cause
      const own: RowMeta = Object.create(meta, { version: { value: () => 1 } })
      const text = within(output, () => encoder?.row(deepFreeze(value), own) ?? '')
      give(output, encoder ? text : value)
      return ' '
    }
    return [name, { ...node, input: visit(node.input), to: absorbing(node.to, row), lane: node.lane }]
  })
  return pipeline(made.name, Object.fromEntries(outputs), { maxPoison: 1 })
}

/** What messages call an RxJS operator while it is tried: by its place in the plan, which is one's own. */
export function foreignName({ id, name }: PlanNode): string {
  return `${name} (${id})`
}

/** Follows a source, and says to the tracer which element is on its way, and in which attempt. */
function head(node: StreamNode, trace: Tracer): StreamNode {
  const definition: OperatorDefinition<unknown, unknown> = {
    kind: 'head',
    start: ({ emit }) => ({
      next: (value, meta) => {
        trace.cause = causeOf(meta)
        emit(value)
      },
    }),
  }
  const attempts: StreamNode = {
    kind: 'foreign',
    input: node,
    label: 'the sample',
    run: (values) => {
      trace.attempt++
      return values
    },
  }
  return { kind: 'operator', input: attempts, definition, run: tie((values) => values, definition) }
}

function causeOf(meta: Meta): string {
  return (meta as Meta & { cause: string }).cause
}

/** State whose values cannot be changed by who reads them, or by who wrote them. */
function frozenPiece(piece: any, keep: (key: string) => void): unknown {
  return new Proxy(piece, {
    get(target, name) {
      const member = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        if ((name === 'add' || name === 'set') && typeof args[0] === 'string') keep(args[0])
        return deepFreeze(member.apply(target, name === 'set' ? args.map(deepFreeze) : args))
      }
    },
  })
}

/** A sink that encodes, and sends nothing. */
function absorbing({ kind }: Sink<any>, row: (value: unknown, meta: RowMeta) => string): Sink<any> {
  return {
    kind,
    guarantee: 'idempotent',
    touches: 'state',
    open: async ({ output }) => ({
      identity: `check ${output}`,
      encoder: () => ({ head: 'check', row }),
      deliver: async () => ({ kind: 'applied' }),
      close: async () => undefined,
    }),
  }
}

/**
 * A source of a sample.
 *
 * @param until gives no record from this place on, and waits there; undefined gives all, and ends
 */
function sampleSource(name: string, { records, decode }: Sample, until: number | undefined): Source {
  return {
    kind: 'sample',
    name,
    open: async () => ({
      identity: `sample ${name}`,
      partitions: 1,
      unit: 'records',
      decode: (record) => decode(records[record.position]!),
      close: async () => undefined,
      reader: async (_, from) => {
        let at = from?.next ?? 0
        return {
          async read({ records: most }) {
            const end = Math.min(until ?? records.length, at + most)
            if (at >= end) return until === undefined ? null : []
            const some = records.slice(at, end).map((record, i) => ({
              position: at + i,
              next: at + i + 1,
              value: record.value,
              bytes: () => record.bytes(),
            }))
            at = end
            return some
          },
          more: (signal) =>
            new Promise((resolve) => {
              if (signal.aborted) return resolve()
              signal.addEventListener('abort', () => resolve(), { once: true })
            }),
          lag: async () => records.length - at,
          close: async () => undefined,
        }
      },
    }),
  }
}

/** The machine's, but for what a flow can see of it. */
function standing(now: number): Runtime {
  let names = 0
  return { ...systemRuntime, now: () => now, random: () => 0.5, id: () => `${names++}`.padStart(32, '0') }
}
