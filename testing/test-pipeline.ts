import { isDeepStrictEqual } from 'node:util'
import { deserialize, serialize } from 'node:v8'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import { type Pipeline, pipeline as pipelineOf, planOf } from '../core/pipeline.ts'
import type { Outcome, RowMeta, Sink } from '../core/sink.ts'
import { nodeOf, type Output, type OutputNode, type SourceStream } from '../core/stream.ts'
import { Trial } from './trial.ts'

type RowsOf<O> = O extends Output<infer T> ? readonly T[] : never

/** A message that a person would get. */
export interface Email {
  /** The output that sends it. */
  readonly output: string
  readonly event: string
  readonly recipient: string
  readonly properties: Readonly<Record<string, unknown>>
  /** Event time of what caused it, epoch milliseconds. */
  readonly time: number
  /** The same for the same cause, whatever crashes. */
  readonly key: string
}

export interface TestOptions {
  /** What the clock says in the beginning. @default the event time of the first record that is fed */
  start?: Date
}

/** A pipeline at work in the engine, on a store in memory, with a clock that the test moves. Nothing leaves the process. */
export interface TestPipeline<O> {
  /**
   * Gives a source some records as they would come in, one after the other, and lets the pipeline work until it has nothing
   * left to do. The clock goes on to the event time of each, where it is not that far yet.
   *
   * @param source its name, or the stream itself, which types the records
   */
  feed<I>(source: string | SourceStream<any, I>, records: readonly NoInfer<I>[]): Promise<void>
  /** Lets time pass without a record. */
  advance(by: Duration): Promise<void>
  /** Ends all sources: no wait is open any more. */
  end(): Promise<void>
  /** The rows that reached an output, in their order. */
  rows<P extends keyof O & string>(output: P): RowsOf<O[P]>
  /** What people would get, over all outputs that reach people. */
  readonly emails: readonly Email[]
  /** Records that were set aside, with the reason. */
  readonly deadLetters: readonly { readonly source: string; readonly where: string; readonly reason: string }[]
  /** What an operator keeps of a key, and, with `by`, of a finer one: of one piece of state itself, of several by their names. */
  state(operator: string, key: string, by?: string | number | bigint): unknown
  /** The next delivery of an output ends so; it is tried again as time passes. `unknown` took effect, and the answer was lost. */
  fail(output: keyof O & string, outcome: 'unknown' | 'notSent' | 'rejected'): void
  /** Kills the process between two commits, and starts it again. */
  crash(): Promise<void>
  /**
   * Runs all that was fed so far anew: with an epoch for every record, and killed before each commit in turn.
   *
   * @throws MillraceError FLOW_BROKE_RULES that names the first output that differs, and where it was cut
   */
  everySplit(): Promise<void>
}

const OUTCOMES: Readonly<Record<string, { took: boolean; outcome: Outcome }>> = {
  unknown: { took: true, outcome: { kind: 'unknown', reason: 'the test lost the answer' } },
  notSent: { took: false, outcome: { kind: 'notSent', reason: 'the test did not send it' } },
  rejected: { took: false, outcome: { kind: 'rejected', retry: 'never', reason: 'the test refused it' } },
}

/** A day passes in fewer strides than it has seconds. */
const STRIDES = 500

/**
 * A pipeline under test: the real engine, with lists for sources, and sinks that keep what they are given.
 *
 * @throws MillraceError BAD_OPTION when it is given no pipeline
 */
export async function testPipeline<O>(pipeline: Pipeline<O>, options: TestOptions = {}): Promise<TestPipeline<O>> {
  const planned = planOf(pipeline)
  if (planned === undefined)
    throw new MillraceError('BAD_OPTION', `testPipeline must be given what pipeline(…) made, got ${shown(pipeline)}`)
  const { plan } = planned
  const names = plan.sources.map(({ name }) => name)
  const outputs = plan.outputs.map(({ name }) => name)
  const failing = new Map<string, { took: boolean; outcome: Outcome }>()
  /** All that was done, to do it again. */
  const steps: ((trial: Trial) => Promise<void>)[] = []
  let trial: Trial | undefined

  const make = (start: number, more: Partial<ConstructorParameters<typeof Trial>[0]> = {}) =>
    new Trial({
      start,
      pipeline: (to) => captured(pipeline, to),
      inputs: Object.fromEntries(names.map((name) => [name, [[]]])),
      answer: (output) => {
        const answer = failing.get(output)
        failing.delete(output)
        return answer
      },
      ...more,
    })
  let start = options.start?.getTime()
  const running = () => {
    trial ??= make((start ??= 1_700_000_000_000))
    return trial
  }
  const step = async (work: (on: Trial) => Promise<void>) => {
    const on = running()
    steps.push(work)
    await work(on)
  }
  const known = (what: string, name: string, all: readonly string[]) => {
    if (!all.includes(name))
      throw new MillraceError(
        'BAD_OPTION',
        `pipeline "${pipeline.name}" has no ${what} ${shown(name)}; it has ${all.map((each) => `'${each}'`).join(', ')}`,
      )
  }
  const sent = (output: string) =>
    running()
      .values(output)
      .map(({ value, text }) => ({ value: deserialize(Buffer.from(value, 'base64')), text }))

  return {
    async feed(source, records) {
      const name = typeof source === 'string' ? source : nameOf(nodeOf(source, 'feed: the source'))
      known('source', name, names)
      const { options } = plan.sources.find((each) => each.name === name)!.node
      const timed = records.map((record) => ({ record, time: timeOf(options, record) }))
      start ??= timed.find(({ time }) => time !== undefined)?.time
      await step(async (on) => {
        for (const { record, time } of timed) {
          const ahead = (time ?? 0) - on.runtime.now()
          if (ahead > 0) {
            await on.settle()
            await on.advance(ahead, ahead / 10)
          }
          on.sources[name]!.push(structuredClone(record))
        }
        await on.settle()
      })
    },
    advance: (by) => {
      const ms = milliseconds(by, 'advance')
      return step((on) => on.advance(ms, ms / STRIDES))
    },
    end: () => step((on) => on.finish()),
    rows(output) {
      known('output', output, outputs)
      return sent(output).map(({ value }) => value) as never
    },
    get emails() {
      return plan.outputs
        .filter(({ node }) => node.to.touches === 'people')
        .flatMap(({ name }) => sent(name).map(({ text }) => ({ output: name, ...JSON.parse(text!) }) as Email))
    },
    get deadLetters() {
      return running().disk.deadLetters.map(({ source, where, reason }) => ({ source, where, reason }))
    },
    state(operator, key, by) {
      const slots = Object.keys(plan.slots).filter((slot) => slot.startsWith(`${operator}/`))
      const stateful = [...new Set(Object.keys(plan.slots).map((slot) => slot.slice(0, slot.lastIndexOf('/'))))]
      known('operator with state called', operator, stateful)
      const text = by === undefined ? key : `${key.length}:${key}${by}`
      const all = running().outcome().state
      const found = slots.flatMap((slot) => {
        const entries = (all[`${slot}/0`] ?? []).map((entry) => JSON.parse(entry))
        const entry = entries.find((each) => each.key === text)
        return entry === undefined
          ? []
          : [[slot.slice(operator.length + 1), 'value' in entry ? entry.value : entry] as const]
      })
      const tables = found.filter(([piece]) => plan.slots[`${operator}/${piece}`] === 'table')
      return tables.length === 1 ? tables[0]![1] : found.length === 0 ? undefined : Object.fromEntries(found)
    },
    fail(output, outcome) {
      known('output', output, outputs)
      failing.set(output, OUTCOMES[outcome]!)
    },
    async crash() {
      running().die()
      await running().settle()
    },
    async everySplit() {
      const again = async (more: Partial<ConstructorParameters<typeof Trial>[0]>) => {
        const other = make(start ?? 1_700_000_000_000, more)
        for (const work of steps) await work(other)
        return other
      }
      const wanted = rowsOf(await again({}))
      const epoch = () => ({ records: 1, bytes: 1 })
      const cut = await again({ epoch })
      const compare = (where: string, other: Trial) => {
        const given = rowsOf(other)
        const output = outputs.find((name) => !isDeepStrictEqual(given[name], wanted[name]))
        if (output === undefined) return
        const at = wanted[output]!.findIndex((row, i) => !isDeepStrictEqual(row, given[output]![i]))
        throw new MillraceError(
          'FLOW_BROKE_RULES',
          `pipeline "${pipeline.name}": output "${output}" is another when it is ${where}: row ${at < 0 ? wanted[output]!.length : at} is ${shownRow(given[output]![at < 0 ? wanted[output]!.length : at])} instead of ${shownRow(wanted[output]![at])}. Something is kept from one record to the next that is not in an operator's state, or is drawn from the clock or from chance`,
        )
      }
      compare('cut after every record', cut)
      for (let commit = 1; commit <= cut.commits; commit++)
        compare(`killed before commit ${commit}`, await again({ epoch, dies: (each) => each === commit }))
    },
  }

  function rowsOf(of: Trial): Record<string, unknown[]> {
    return Object.fromEntries(
      outputs.map((name) => [name, of.values(name).map(({ value }) => deserialize(Buffer.from(value, 'base64')))]),
    )
  }
}

const shownRow = (row: unknown): string =>
  row === undefined ? 'none' : JSON.stringify(row, (_, value) => (typeof value === 'bigint' ? `${value}n` : value))

/** The same pipeline with sinks that keep what they get, and what its own sinks would have sent. */
function captured(pipeline: Pipeline<unknown>, to: Sink<any>): Pipeline {
  const outputs = planOf(pipeline).plan.outputs.map(({ name, node }): [string, OutputNode] => {
    const own = node.to.dry?.({ pipeline: pipeline.name, output: name })
    const keeping: Sink<any> = {
      ...to,
      async open(context) {
        const open = await to.open(context)
        return {
          ...open,
          encoder: (task) => {
            const { head, row } = open.encoder(task)
            return {
              head,
              row: (value: unknown, meta: RowMeta) =>
                row({ value: serialize(value).toString('base64'), text: own?.row(value as never, meta) }, meta),
            }
          },
        }
      },
    }
    return [name, { ...node, to: keeping }]
  })
  return pipelineOf(pipeline.name, Object.fromEntries(outputs), { maxPoison: 1 })
}

function nameOf(node: ReturnType<typeof nodeOf>): string {
  if (node.kind === 'source') return node.name
  if (node.kind === 'operator' || node.kind === 'foreign') return nameOf(node.input)
  throw new MillraceError('BAD_OPTION', 'feed: the stream must come from one source; name it by its text')
}

/** The event time of a record as it comes in; undefined of one that does not fit. */
function timeOf(options: { schema: any; time(value: any): number }, record: unknown): number | undefined {
  try {
    const result = options.schema['~standard'].validate(record)
    const time = result.issues === undefined ? options.time(result.value) : Number.NaN
    return Number.isFinite(time) ? time : undefined
  } catch {
    return undefined
  }
}
