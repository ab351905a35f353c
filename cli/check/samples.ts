import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { sharing } from '../../core/share.ts'
import type { RawRecord, Source } from '../../core/source.ts'
import type { SourceOptions, StreamNode } from '../../core/stream.ts'
import { type JsonSchema, sampleOf, textOf } from './json-schema.ts'

/** Records to try a flow with. */
export interface Sample {
  readonly from: 'schema' | 'input'
  readonly records: readonly RawRecord[]
  decode(record: RawRecord): unknown
}

type SourceNode = StreamNode & { kind: 'source' }

/** Records of a sample that is made, and the most that one takes of an input. */
const MADE = 240
const MOST = 2_000
/** When made records begin: an instant that tells itself from all that a machine's clock may say. */
const BEGIN = Date.UTC(2026, 0, 5)

/** The first records of each partition of an input. @throws MillraceError SOURCE_FAILED */
export async function inputSample(input: Source, dataDir: string, most = MOST): Promise<Sample[]> {
  const open = await input.open(
    {
      pipeline: 'check',
      stage: 'main',
      dataDir,
      env: {},
      live: false,
      runtime: systemRuntime,
      logger: silentLogger,
      metrics: createMetrics(),
      share: sharing(),
    },
    { untilEnd: true },
  )
  try {
    const stop = AbortSignal.timeout(10_000)
    const samples: Sample[] = []
    for (let partition = 0; partition < open.partitions; partition++) {
      const records: RawRecord[] = []
      const reader = await open.reader(partition, undefined)
      try {
        while (records.length < most && !stop.aborted) {
          const some = await reader.read({ records: most - records.length, bytes: 8_388_608 })
          if (some === null) break
          records.push(...some)
          if (some.length === 0) await reader.more(stop)
        }
      } finally {
        await reader.close()
      }
      samples.push({ from: 'input', records, decode: (record) => open.decode(record) })
    }
    return samples
  } finally {
    await open.close()
  }
}

/**
 * Records that fit a source's schema: some keys, times that go on with some disorder, some records twice.
 *
 * @param span milliseconds from the first to the last
 * @returns why none can be made, when none can
 */
export function madeSample({ options, lateness }: SourceNode, span: number): Sample | string {
  const schema = jsonSchemaOf(options)
  if (typeof schema === 'string') return schema
  const random = randomNumbers(7)
  const base = sampleOf(schema, { random, serial: 0, choose: () => undefined })
  const keys = readPaths(options.key, base)
  const times = readPaths(options.time, base)
  const step = span / MADE
  const unit = [1, 0.001, 1_000].find((factor) => isInstant(timeOf(options, base, times, BEGIN * factor))) ?? 1
  const values: unknown[] = []
  for (let serial = 1; values.length < MADE; serial++) {
    const late = lateness > 0 && random() < 0.3 ? random() * Math.min(lateness * 0.9, step * 5) : 0
    const time = Math.floor(BEGIN + step * (values.length + 10) - late)
    const value = sampleOf(schema, {
      random,
      serial,
      choose: (path, field) => {
        if (times.has(path)) return instantIn(field, time, unit)
        if (!keys.has(path) || 'const' in field || field.enum) return undefined
        const key = Math.floor(random() * 6)
        if (field.type === 'string') return textOf(field, path, key)
        return field.type === 'integer' || field.type === 'number' ? (field.minimum ?? 1) + key : undefined
      },
    })
    values.push(value)
    if (serial % 12 === 0 && values.length < MADE) values.push(structuredClone(value))
  }
  const unfit = values.filter((value) => !fits(options, value)).length
  if (unfit > MADE / 4) return 'its schema says more than JSON Schema can'
  const records = values.map((value, position): RawRecord => {
    const text = JSON.stringify(value)
    return { position, next: position + 1, value: text, bytes: () => Buffer.from(text) }
  })
  return { from: 'schema', records, decode: ({ value }) => JSON.parse(value as string) }
}

/** How long a sample must be so that state comes to its end in it. */
export function spanOf(plan: { readonly nodes: readonly { readonly node: StreamNode }[] }): number {
  const lives = plan.nodes.flatMap(({ node }) =>
    node.kind !== 'operator'
      ? []
      : Object.values(node.definition.state ?? {}).flatMap((piece) =>
          piece.kind === 'table' ? [piece.ttl] : piece.kind === 'expiring-set' ? [piece.within] : [],
        ),
  )
  const shortest = Math.min(...lives.filter((life) => Number.isFinite(life)))
  return Number.isFinite(shortest) ? Math.min(Math.max(shortest * 4, 3_600_000), 90 * 86_400_000) : 3_600_000
}

/** Whether a number is plausible as epoch milliseconds: from 1990 to 2100. */
export function isInstant(time: unknown): boolean {
  return typeof time === 'number' && time > 631_152_000_000 && time < 4_102_444_800_000
}

function jsonSchemaOf({ schema }: SourceOptions<any>): JsonSchema | string {
  const { jsonSchema } = (schema as { '~standard': { jsonSchema?: { input(options: object): unknown } } })['~standard']
  if (typeof jsonSchema?.input !== 'function') return 'its schema does not give JSON Schema'
  try {
    return jsonSchema.input({ target: 'draft-2020-12' }) as JsonSchema
  } catch {
    return 'its schema says more than JSON Schema can'
  }
}

function fits({ schema }: SourceOptions<any>, value: unknown): boolean {
  try {
    const result = schema['~standard'].validate(value)
    return !(result instanceof Promise) && !result.issues
  } catch {
    return false
  }
}

/** The leaves of a record that a function reads. */
function readPaths(read: (e: any) => unknown, record: unknown): ReadonlySet<string> {
  const paths = new Set<string>()
  const seen = (value: unknown, path: string): unknown => {
    if (typeof value !== 'object' || value === null) {
      paths.add(path)
      return value
    }
    return new Proxy(value, {
      get: (target, name) =>
        typeof name === 'symbol'
          ? Reflect.get(target, name)
          : seen(Reflect.get(target, name), path === '' ? name : `${path}.${name}`),
    })
  }
  try {
    read(seen(record, ''))
  } catch {
    // It is tried again, and told about, with every record.
  }
  paths.delete('')
  return paths
}

function timeOf({ time }: SourceOptions<any>, base: unknown, paths: ReadonlySet<string>, instant: number): unknown {
  const record = structuredClone(base)
  for (const path of paths) {
    const steps = path.split('.')
    let at = record as Record<string, any>
    for (const step of steps.slice(0, -1)) at = at?.[step]
    const last = steps.at(-1)!
    if (typeof at?.[last] === 'number') at[last] = instant
    else if (typeof at?.[last] === 'string') at[last] = new Date(instant).toISOString()
  }
  try {
    return time(record)
  } catch {
    return undefined
  }
}

function instantIn(field: JsonSchema, time: number, unit: number): unknown {
  if (field.type === 'integer') return Math.floor(time * unit)
  if (field.type === 'number') return time * unit
  if (field.type !== 'string' || field.enum) return undefined
  const text = new Date(time).toISOString()
  return field.format === 'date' ? text.slice(0, 10) : text
}

/** The same numbers at every call. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
}
