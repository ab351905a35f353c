import type { StandardSchemaV1 } from '@standard-schema/spec'
import { type Duration, milliseconds, type Size, shown } from './duration.ts'
import { MillraceError } from './errors.ts'
import { made } from './made.ts'
import { definitionOf, type Key, type Meta, type Operator, type OperatorDefinition } from './operator.ts'
import type { Sink } from './sink.ts'
import type { Source } from './source.ts'
import { operate } from './standalone.ts'

type Schema = StandardSchemaV1
type In<S extends Schema> = StandardSchemaV1.InferInput<S>
type Out<S extends Schema> = StandardSchemaV1.InferOutput<S>

/** How a source's records become a stream. */
export interface SourceOptions<S extends Schema> {
  /** Any Standard Schema; a record that does not fit goes to the dead letters. */
  schema: S
  /** Whose record it is: state is kept by it, and records of one key stay in order. */
  key: (e: Out<S>) => Key
  /** Event time, epoch milliseconds. */
  time: (e: Out<S>) => number
  /** How far behind the newest event an older one may come. @default '0s' */
  lateness?: Duration
  /** What `--input`, metrics and messages call it. @default the name in its system */
  name?: string
}

/** A channel between two stages, as the plan knows it. */
export interface PlannedChannel {
  readonly name: string
  /** @default as many as the stage before has */
  readonly partitions: number | undefined
}

/** What a stream is made of: a description, until a pipeline runs. */
export type StreamNode =
  | {
      readonly kind: 'source'
      readonly name: string
      readonly source: Source
      readonly options: SourceOptions<any>
      readonly lateness: number
      /** It is the far end of a channel from the stage before. */
      readonly channel?: PlannedChannel
    }
  | {
      readonly kind: 'operator'
      readonly input: StreamNode
      readonly definition: OperatorDefinition<any, any>
      readonly run: Operator<any, any>
    }
  | { readonly kind: 'foreign'; readonly input: StreamNode; readonly run: Operator<any, any>; readonly label: string }
  | { readonly kind: 'side'; readonly of: StreamNode & { kind: 'operator' }; readonly name: string }
  | { readonly kind: 'merge'; readonly inputs: readonly StreamNode[]; readonly names: readonly string[] | undefined }

/** What happens to a lane that may not grow further. */
export interface LaneOptions {
  /** Most bytes of staged batches, on disk. @default '1GB' */
  maxStaged?: Size
  /** Most time that the oldest staged batch may wait. @default no bound */
  maxAge?: Duration
  /** `pause`: the task takes no further records. `park`: rows that no longer fit go to the dead letters. @default 'pause' */
  whenFull?: 'pause' | 'park'
}

/** What `.to(sink)` gives: the end of a branch. */
export interface Output<out T> {
  readonly sink: string
  readonly rows?: readonly T[] | undefined
}

/** An output as the engine sees it. */
export interface OutputNode extends Output<unknown> {
  readonly input: StreamNode
  readonly to: Sink<any>
  /** It is the near end of a channel to the next stage. */
  readonly channel?: PlannedChannel
  readonly lane: {
    readonly maxStaged: Size
    readonly maxAge: Duration | undefined
    readonly whenFull: 'pause' | 'park'
  }
}

declare const STREAM: unique symbol
declare const FED: unique symbol

type Predicate<T> = (e: T, meta: Meta) => boolean
/** What is left of T when the predicate F (written or inferred as `e is A`) has said yes. */
type Narrow<F, T> = F extends (e: any, ...rest: any) => e is infer A ? A : T

type Piped<T, S> = [keyof S] extends [never] ? Stream<T> : Sided<T, S>

/** A description of records on their way. One overload per length, as RxJS has it: see the notes on types in CONTRIBUTING.md. */
export interface Stream<out T> {
  readonly [STREAM]: T
  pipe<A, SA = {}>(a: Operator<T, A, SA>): Piped<A, SA>
  pipe<A, B, SA = {}, SB = {}>(a: Operator<T, A, SA>, b: Operator<A, B, SB>): Piped<B, SA & SB>
  pipe<A, B, C, SA = {}, SB = {}, SC = {}>(
    a: Operator<T, A, SA>,
    b: Operator<A, B, SB>,
    c: Operator<B, C, SC>,
  ): Piped<C, SA & SB & SC>
  pipe<A, B, C, D, SA = {}, SB = {}, SC = {}, SD = {}>(
    a: Operator<T, A, SA>,
    b: Operator<A, B, SB>,
    c: Operator<B, C, SC>,
    d: Operator<C, D, SD>,
  ): Piped<D, SA & SB & SC & SD>
  pipe<A, B, C, D, E, SA = {}, SB = {}, SC = {}, SD = {}, SE = {}>(
    a: Operator<T, A, SA>,
    b: Operator<A, B, SB>,
    c: Operator<B, C, SC>,
    d: Operator<C, D, SD>,
    e: Operator<D, E, SE>,
  ): Piped<E, SA & SB & SC & SD & SE>
  pipe<A, B, C, D, E, F, SA = {}, SB = {}, SC = {}, SD = {}, SE = {}, SF = {}>(
    a: Operator<T, A, SA>,
    b: Operator<A, B, SB>,
    c: Operator<B, C, SC>,
    d: Operator<C, D, SD>,
    e: Operator<D, E, SE>,
    f: Operator<E, F, SF>,
  ): Piped<F, SA & SB & SC & SD & SE & SF>
  /** Ends a branch. */
  to(sink: Sink<T>, lane?: LaneOptions): Output<T>
  /** One stream a case, narrowed by it; the first case that says yes takes a value, and `rest` is what none took. */
  split<C extends Record<string, Predicate<T>>>(
    cases: C,
  ): { readonly [P in keyof C]: Stream<Narrow<C[P], T>> } & { readonly rest: Stream<T> }
}

/** A stream whose operators laid something aside. */
export interface Sided<out T, out S> extends Stream<T> {
  side<P extends keyof S & string>(name: P): Stream<S[P]>
}

/** A stream that came straight from a source: a test can feed it. */
export interface SourceStream<out T, in I = unknown> extends Stream<T> {
  readonly [FED]?: ((input: I) => void) | undefined
}

const NODE = Symbol.for('millrace.stream')

/** The node behind a stream. @throws MillraceError BAD_PIPELINE when it is no stream */
export function nodeOf(stream: unknown, where: string): StreamNode {
  const node = (stream as { [NODE]?: StreamNode } | null | undefined)?.[NODE]
  if (node) return node
  throw new MillraceError(
    'BAD_PIPELINE',
    `${where} must be a Millrace stream, got ${shown(stream)}: begin with fromKafka, fromFile or stream`,
  )
}

/** A stream of this node. */
export function streamOf<T>(node: StreamNode): Stream<T> {
  const described = {
    [NODE]: made(node),
    pipe: (...operators: Operator<any, any>[]) => streamOf(operators.reduce(pipeOne, node)),
    to: (sink: Sink<any>, lane: LaneOptions = {}): OutputNode => {
      if (typeof sink?.open !== 'function')
        throw new MillraceError('BAD_PIPELINE', `.to(sink) must be given a sink, got ${shown(sink)}`)
      const { maxStaged = '1GB', maxAge, whenFull = 'pause' } = lane
      if (whenFull !== 'pause' && whenFull !== 'park') {
        throw new MillraceError(
          'BAD_OPTION',
          `.to(${sink.kind}): whenFull must be 'pause' or 'park', got ${shown(whenFull)}`,
        )
      }
      return made({ sink: sink.kind, input: node, to: sink, lane: { maxStaged, maxAge, whenFull } })
    },
    split: (cases: Readonly<Record<string, Predicate<any>>>) => {
      const whole = pipeOne(node, splitOne(cases ?? {}), 0) as StreamNode & { kind: 'operator' }
      const taken = Object.keys(cases).map((name) => [name, streamOf({ kind: 'side', of: whole, name })])
      return { ...Object.fromEntries(taken), rest: streamOf(whole) }
    },
    side: (name: string) => {
      for (let at: StreamNode | undefined = node; at?.kind === 'operator' || at?.kind === 'foreign'; at = at.input) {
        if (at.kind === 'operator' && at.definition.sides?.includes(name))
          return streamOf({ kind: 'side', of: at, name })
      }
      throw new MillraceError(
        'BAD_PIPELINE',
        `.side(${shown(name)}): no operator of this .pipe lays anything aside under that name`,
      )
    },
  }
  return described as unknown as Stream<T>
}

/** The operator behind `.split`: its cases are its side streams, and what none took is its output. */
function splitOne(cases: Readonly<Record<string, Predicate<any>>>): Operator<any, any> {
  const names = Object.keys(cases)
  for (const name of names) {
    if (typeof cases[name] !== 'function')
      throw new MillraceError(
        'BAD_OPTION',
        `.split: ${name} must be a function of the record, got ${shown(cases[name])}`,
      )
    if (name === 'rest')
      throw new MillraceError('BAD_OPTION', `.split: no case may be called rest, which is what none took`)
  }
  if (names.length === 0) throw new MillraceError('BAD_OPTION', `.split must be given at least one case`)
  return operate<any, any, {}>({
    kind: 'split',
    sides: names,
    start: ({ emit, side }) => ({
      next(value, meta) {
        const taker = names.find((name) => cases[name]!(value, meta))
        if (taker === undefined) emit(value)
        else side(taker, value)
      },
    }),
  })
}

function pipeOne(input: StreamNode, run: Operator<any, any>, place: number): StreamNode {
  if (typeof run !== 'function')
    throw new MillraceError('BAD_PIPELINE', `.pipe(…) takes operators, got ${shown(run)} at place ${place + 1}`)
  const definition = definitionOf(run)
  if (definition) return { kind: 'operator', input, definition, run }
  return made({ kind: 'foreign', input, run, label: `the RxJS operator at place ${place + 1} of a .pipe` })
}

/**
 * A stream of a source of one's own; `fromKafka` and its like are this in one line.
 *
 * @throws MillraceError BAD_OPTION when an option is missing or of the wrong form
 */
export function stream<S extends Schema>(source: Source, options: SourceOptions<S>): SourceStream<Out<S>, In<S>> {
  const { lateness = '0s', name = source.name } = options
  const where = `${source.kind} "${name}"`
  if (typeof options.schema?.['~standard']?.validate !== 'function') {
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: schema must be a Standard Schema (zod, valibot, arktype), got ${shown(options.schema)}`,
    )
  }
  for (const option of ['key', 'time'] as const) {
    if (typeof options[option] === 'function') continue
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: ${option} must be a function of the record, got ${shown(options[option])}`,
    )
  }
  return streamOf({
    kind: 'source',
    name,
    source,
    options,
    lateness: milliseconds(lateness, `${where}: lateness`, { zero: true }),
  })
}

type ValueOf<S> = S extends Stream<infer T> ? T : never
type Tagged<N, V> = N extends string ? { readonly from: N; readonly value: V } : never
type TaggedOf<M> = { [N in keyof M & string]: Tagged<N, ValueOf<M[N]>> }[keyof M & string]

/**
 * Streams by event time into one. With names, each value says where it is from, and TypeScript knows what it is then.
 *
 * Records are taken in the order of their event time as far as they are there; a stream that is silent does not hold up the
 * others for longer than its source is known to be at its head. Keeps nothing.
 *
 * @example
 * ```ts
 * const carts = events.pipe(filter((e) => e.type === 'addtocart'))
 * const orders = events.pipe(filter((e) => e.type === 'transaction'))
 * merge({ carts, orders }).pipe(map(({ from, value }) => `${value.visitorId} ${from}`))
 * ```
 */
export function merge<M extends Record<string, Stream<unknown>>>(streams: M): Stream<TaggedOf<M>>
export function merge<A extends readonly Stream<unknown>[]>(...streams: A): Stream<ValueOf<A[number]>>
export function merge(...args: unknown[]): Stream<any> {
  const named = args.length === 1 && !(NODE in (args[0] as object))
  const streams = named ? Object.values(args[0] as object) : args
  const names = named ? Object.keys(args[0] as object) : undefined
  if (streams.length === 0) throw new MillraceError('BAD_PIPELINE', 'merge must be given at least one stream')
  return streamOf({
    kind: 'merge',
    inputs: streams.map((s, i) => nodeOf(s, `merge: ${names?.[i] ?? `stream ${i + 1}`}`)),
    names,
  })
}
