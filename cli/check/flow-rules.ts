import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MillraceError, messageOf } from '../../core/errors.ts'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { type Pipeline, planOf } from '../../core/pipeline.ts'
import type { PlanNode } from '../../core/plan.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { sharing } from '../../core/share.ts'
import type { OpenSink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import { counted } from '../format.ts'
import type { Parts } from '../watched.ts'
import { type At, type DryRun, dryRun, foreignName } from './dry-run.ts'
import type { Findings, Place } from './finding.ts'
import { rekeyedRule } from './partition-rules.ts'
import { remedyOf } from './remedies.ts'
import { inputSample, isInstant, madeSample, type Sample, spanOf } from './samples.ts'
import { authorsLine } from './stack.ts'
import { WHY } from './text-rules.ts'
import { withTraps } from './traps.ts'

/** Sinks that can encode without a system: all that they open is in the folder that they are given. */
const ENCODING = ['esp', 'redis', 'log']
/** With fewer observations, nothing is said of what is always the same. */
const ENOUGH = 20
const MISSING = ['', 'undefined', 'null', 'NaN', '[object Object]']

export interface FlowRules {
  readonly pipeline: Pipeline
  readonly parts: Parts
  readonly inputs: Readonly<Record<string, Source>>
  /** How many partitions a source has, where that is known. */
  readonly partitions: ReadonlyMap<PlanNode, number>
  readonly findings: Findings
}

/**
 * Tries the flow in the engine, whole, and cut after every record with restarts in between: what differs is kept where
 * the engine does not see it. On the way it sees what the author's functions do.
 *
 * @returns what it was tried on, in a few words
 */
export async function flowRules({ pipeline, parts, inputs, partitions, findings }: FlowRules): Promise<string> {
  const { plan } = planOf(pipeline)
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'millrace-check-'))
  const encoders: Record<string, OpenSink<any>> = {}
  try {
    const samples: Record<string, Sample> = {}
    for (const { name, node } of plan.sources) {
      const input = inputs[name]
      const sample = input ? (await inputSample(input, folder))[0]! : madeSample(node, spanOf(plan))
      if (typeof sample === 'string') {
        findings.add({
          code: 'SAMPLE_NEEDED',
          place: parts.siteOf(node),
          operator: name,
          problem: `no records can be made for the source "${name}": ${sample}; the flow was not tried`,
          instead: `give it records of yours: --input ${name}=events.jsonl`,
        })
        return 'not tried'
      }
      samples[name] = sample
    }
    for (const { name, node } of plan.outputs) {
      const { to } = node
      if (!ENCODING.includes(to.kind)) continue
      encoders[name] = await to.open({
        pipeline: pipeline.name,
        stage: 'main',
        output: name,
        dataDir: folder,
        env: {},
        live: false,
        runtime: systemRuntime,
        logger: silentLogger,
        metrics: createMetrics(),
        share: sharing(),
      })
    }
    await tryOut({ pipeline, parts, inputs, partitions, findings }, samples, encoders)
    return Object.entries(samples)
      .map(([name, { from, records }]) =>
        from === 'input'
          ? `${counted(records.length, 'record')} of the input of ${name}`
          : `${counted(records.length, 'record')} made by the schema of ${name}`,
      )
      .join(', ')
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code === 'INTERNAL') throw thrown
    const output = plan.outputs.find(({ name, node }) => ENCODING.includes(node.to.kind) && !encoders[name])
    findings.add({
      code: thrown.code,
      place: output && parts.siteOf(output.node),
      problem: thrown.message,
      instead: 'see what the message says',
    })
    return 'not tried to the end'
  } finally {
    for (const encoder of Object.values(encoders)) await encoder.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function tryOut(
  { pipeline, parts, findings, inputs, partitions }: FlowRules,
  samples: Readonly<Record<string, Sample>>,
  encoders: Readonly<Record<string, OpenSink<unknown>>>,
): Promise<void> {
  const { plan } = planOf(pipeline)
  const siteOf = (part: At): Place | undefined => siteOfPart(part, parts)
  const told = new WeakSet<object>()
  const blamed = new Set<At>()
  const kept = new Map<PlanNode, Map<string, Set<string>>>()
  const keys = new Map<PlanNode, Map<string, number>>()
  const rekeyed = new Map<PlanNode, Map<string, Set<string>>>()
  const times = new Set<PlanNode>()
  const changing = new Set<At>()
  const promises = new WeakSet<object>()
  const now = Date.now()
  let at: At | undefined

  const watch: Parameters<typeof dryRun>[0]['watch'] = {
    at(part) {
      at = part
    },
    threw(part, error) {
      if (typeof error !== 'object' || error === null || told.has(error)) return
      // it stops the run, and is told there
      if (error instanceof MillraceError && error.code === 'FLOW_BROKE_RULES') return
      told.add(error)
      blamed.add(part)
      if (isMutation(error)) changing.add(part)
      explain(part, error, siteOf(part), findings)
    },
    gave(part, value) {
      if (typeof (value as PromiseLike<unknown> | undefined)?.then !== 'function') return
      if (promises.has(value as object)) return
      promises.add(value as object)
      ;(value as Promise<unknown>).then(undefined, () => undefined)
      const place = siteOf(part)
      if (findings.has('PROMISE', place)) return
      findings.add({
        code: 'PROMISE',
        place,
        operator: part.name,
        problem: `${part.name} gives a promise, and not its value: what comes after it, and the sink, get {}`,
        instead: 'use mapAsync, which waits for the answer, in the order of the records',
      })
    },
    kept(node, { key, by }) {
      const own = kept.get(node) ?? new Map<string, Set<string>>()
      kept.set(node, own)
      own.set(by, (own.get(by) ?? new Set()).add(key))
    },
    rekeyed(node, from, to) {
      const own = rekeyed.get(node) ?? new Map<string, Set<string>>()
      rekeyed.set(node, own)
      own.set(to, (own.get(to) ?? new Set()).add(from))
    },
    read(node, what, value) {
      if (what === 'key') return readKey(node, value)
      if (isInstant(value) || times.has(node)) return
      times.add(node)
      findings.add({
        code: 'TIME_UNUSABLE',
        place: siteOf(node),
        operator: node.name,
        ...timeProblem(node.name, value),
      })
    },
  }

  function readKey(node: PlanNode, value: unknown): void {
    const own = keys.get(node) ?? new Map<string, number>()
    keys.set(node, own)
    const text = String(value)
    own.set(text, (own.get(text) ?? 0) + 1)
    if (value !== null && typeof value !== 'object' && !MISSING.includes(text)) return
    findings.add({
      code: 'KEY_MISSING',
      place: siteOf(node),
      operator: node.name,
      problem: `the key of a record of "${node.name}" is ${value === '' ? 'empty' : text}: all records without one would share a key, or become dead letters`,
      instead:
        'key by a field that every record has, or make the field required in the schema, so that others are set aside with their reason',
    })
  }

  const run = (cut: boolean): Promise<DryRun | undefined> =>
    dryRun({ pipeline, samples, encoders, cut, watch, now }).catch((error: unknown) => {
      if (!(error instanceof MillraceError) || error.code !== 'FLOW_BROKE_RULES') throw error
      const ruled = plan.nodes.find(
        ({ node, name }) => node.kind === 'operator' && error.message.startsWith(`${node.definition.kind} "${name}": `),
      )
      if (ruled) {
        const { problem, instead = 'see what the message says' } = parted(error.message)
        findings.add({
          code: error.code,
          place: siteOf(ruled),
          operator: ruled.name,
          problem: `${problem}: the pipeline would stop at such a record`,
          instead,
        })
        return undefined
      }
      const foreign = plan.nodes.filter(({ node }) => node.kind === 'foreign')
      const [only, more] = foreign
      const broke = foreign.find((node) => error.message.includes(foreignName(node))) ?? (more ? undefined : only)
      const place = broke && siteOf(broke)
      if (findings.within('RXJS_STATE', place?.file)) return undefined
      findings.add({
        code: 'RXJS_STATE',
        place,
        operator: broke?.name,
        problem: error.message.replace(broke ? ` (${broke.id})` : '', ''),
        instead:
          'use an operator of millrace/operators: dedup, scan and absence keep what they know in the state, and mapAsync waits',
      })
      return undefined
    })

  const traps = {
    inFlow: () => at !== undefined,
    caught: (kind: 'WALL_CLOCK' | 'CHANCE' | 'SIDE_EFFECT', what: string, place: Place) => {
      const operator = at?.name
      if (kind === 'SIDE_EFFECT') {
        findings.add({
          code: kind,
          place,
          operator,
          problem: `${what} is called within the flow: the record may be tried again, and then it happens twice, or its epoch is never committed, and then it has happened all the same`,
          instead: 'end a branch in a sink for what should be written or sent, and ask others with mapAsync',
        })
      } else
        findings.add({
          code: kind,
          place,
          operator,
          problem: `${what} is asked within the flow: ${WHY}`,
          instead: remedyOf(what),
        })
    },
    now,
  }
  const [whole, cut] = await withTraps(traps, async () => [await run(false), await run(true)] as const)

  for (const node of plan.nodes) {
    if (node.node.kind !== 'operator' || !node.node.definition.work) continue
    findings.add({
      code: 'CALLS_NOT_MADE',
      place: siteOf(node),
      operator: node.name,
      problem: `check makes no calls: what is behind ${node.name} was not tried`,
      instead: 'nothing; hold what comes after it to tests of its own',
    })
  }
  const input = Object.keys(inputs).length > 0
  if (whole && cut) compare(pipeline, whole, cut, { siteOf, changing }, findings)
  for (const { where, reason } of whole?.letters ?? []) {
    const node = plan.nodes.find((each) => each.node.kind === 'foreign' && foreignName(each) === where)
    if (!node || blamed.has(node)) continue
    blamed.add(node)
    findings.add({
      code: 'THROWS',
      place: siteOf(node),
      operator: node.name,
      problem: `a record of the sample makes ${node.name} throw: ${reason}`,
      instead: 'handle the case, or leave the record to the dead letters if it was meant so',
    })
  }
  for (const node of plan.sources) {
    const { records, from } = samples[node.name]!
    const bad = whole?.letters.filter(({ source, where }) => source === node.name && where === 'decode').length ?? 0
    if (from === 'input' && bad > records.length * planOf(pipeline).maxPoison) {
      findings.add({
        code: 'SAMPLE_UNFIT',
        place: siteOf(node),
        operator: node.name,
        problem: `${bad} of ${counted(records.length, 'record')} do not fit the schema of "${node.name}": a run would stop, rather than empty the source into the dead letters`,
        instead:
          'make the schema say what really comes; millrace run with --data in a folder of its own, and dead-letters list, tell the reasons',
      })
    }
    const seen = keys.get(node)
    if (seen?.size === 1 && [...seen.values()][0]! >= ENOUGH) {
      findings.add({
        code: 'KEY_CONSTANT',
        place: siteOf(node),
        operator: node.name,
        problem: `the key of "${node.name}" is the same for all records of the sample: every operator with state works on one key, and one partition does all the work`,
        instead: 'key by what the state is about: a person, a cart, an order',
      })
    }
  }
  for (const [node, values] of kept) byRules(node, values, siteOf(node), findings)
  rekeyedRule(plan, parts, partitions, rekeyed, findings)
  if (input && whole) {
    for (const output of plan.outputs) {
      if (whole.trace.has(output)) continue
      findings.add({
        code: 'OUTPUT_EMPTY',
        place: siteOf(output),
        operator: output.name,
        problem: `no record of the input reached the output "${output.name}"`,
        instead: 'nothing, if none of them should; otherwise look at the conditions on the way there',
      })
    }
  }
}

function siteOfPart(part: At, parts: Parts): Place | undefined {
  if ('to' in part.node) return parts.siteOf(part.node)
  return parts.siteOf(part.node.kind === 'operator' ? part.node.definition : part.node)
}

/** Names the first part on each way whose results depend on where epochs end. */
function compare(
  pipeline: Pipeline,
  whole: DryRun,
  cut: DryRun,
  { siteOf, changing }: { siteOf: (part: At) => Place | undefined; changing: ReadonlySet<At> },
  findings: Findings,
): void {
  const { plan } = planOf(pipeline)
  const tainted = new Set<number>()
  const differs = (part: At) => {
    const first = whole.trace.get(part) ?? new Map<string, readonly string[]>()
    const second = cut.trace.get(part) ?? new Map<string, readonly string[]>()
    for (const cause of new Set([...first.keys(), ...second.keys()]))
      if (String(first.get(cause)) !== String(second.get(cause))) return true
    return false
  }
  const blame = (part: At, what: string) =>
    findings.add({
      code: 'HIDDEN_STATE',
      place: siteOf(part),
      operator: part.name,
      problem: `${what} gives other results when it is run again with other epochs and restarts: it keeps something between records, in a variable perhaps, that is lost at a restart`,
      instead:
        'keep it in the state of scan or dedup, a key, with a ttl: it is committed with the outputs, and comes back',
    })
  for (const node of plan.nodes) {
    if (node.inputs.some((input) => tainted.has(input))) {
      tainted.add(node.id)
      continue
    }
    if (!differs(node)) continue
    tainted.add(node.id)
    const told =
      changing.has(node) || (node.node.kind === 'foreign' && findings.within('RXJS_STATE', siteOf(node)?.file))
    if (!told) blame(node, node.name)
  }
  for (const output of plan.outputs)
    if (!tainted.has(output.input) && differs(output)) blame(output, `the sink of "${output.name}"`)
}

function byRules(
  node: PlanNode,
  values: ReadonlyMap<string, ReadonlySet<string>>,
  place: Place | undefined,
  findings: Findings,
): void {
  const keys = new Set([...values.values()].flatMap((own) => [...own]))
  if (keys.size < 2) return
  const shared = [...values.values()].filter((own) => own.size > 1).length
  if (values.size === 1) {
    findings.add({
      code: 'BY_CONSTANT',
      place,
      operator: node.name,
      problem: `by of ${node.name} gives the same for all records of the sample: the state is that of the stream's key, with a longer name`,
      instead: 'leave by away, or give what tells the things of one key apart',
    })
  } else if (shared * 2 >= values.size && values.size < keys.size) {
    findings.add({
      code: 'BY_IS_FINER',
      place,
      operator: node.name,
      problem: `by of ${node.name} gives the same for several keys of the stream, but its state is kept for each key of the stream and by: nothing is added up over keys`,
      instead: 'nothing, if it is meant within each key; otherwise make it the key of the source',
    })
  }
}

function isMutation(error: object): boolean {
  const { message } = error as Error
  return error instanceof TypeError && /read only property|not extensible|Cannot delete property/.test(message)
}

/** Tells what an error means that a function of the flow threw. */
function explain(part: At, error: object, site: Place | undefined, findings: Findings): void {
  const message = messageOf(error)
  const line = authorsLine((error as Error).stack)
  if (isMutation(error)) {
    findings.add({
      code: 'MUTATION',
      place: line ?? site,
      operator: part.name,
      problem: `a value is changed that ${part.name} does not own (${message}): other branches and the state hold the same one, and would see the change`,
      instead: 'make a new one: { ...e, field: value }, [...list, item], list.toSorted()',
    })
    return
  }
  if ('to' in part.node && !line) {
    findings.add({
      code: 'ROW_REFUSED',
      place: site,
      operator: part.name,
      problem: `a record of the sample makes a row that the sink does not take, and becomes a dead letter: ${message}`,
      instead: 'filter such records out before, or make the field required in the schema',
    })
    return
  }
  // an error of one's own making is a way to set a record aside
  if (error.constructor === Error) return
  const own = error instanceof MillraceError
  const { problem, instead = 'handle the case: the schema says that such records come' } = own
    ? parted(message)
    : { problem: message }
  const what = own ? `is refused by ${part.name}` : `makes a function of ${part.name} throw`
  findings.add({
    code: 'THROWS',
    place: line ?? site,
    operator: part.name,
    problem: `a record of the sample ${what}, and becomes a dead letter: ${problem}`,
    instead,
  })
}

/** A message of Millrace's own: what is wrong, and in its last sentence, where there are two, what to write instead. */
function parted(message: string): { readonly problem: string; readonly instead?: string } {
  const [, problem, instead] = /^(.*)\. ([^.]+)$/s.exec(message) ?? []
  if (problem === undefined || instead === undefined) return { problem: message }
  return { problem, instead: instead[0]!.toLowerCase() + instead.slice(1) }
}

function timeProblem(name: string, value: unknown): { problem: string; instead: string } {
  const wanted = 'give epoch milliseconds'
  if (value instanceof Date)
    return { problem: `time of "${name}" gives a Date, and no number`, instead: `${wanted}: e.at.getTime()` }
  if (typeof value === 'string')
    return { problem: `time of "${name}" gives a text, and no number`, instead: `${wanted}: Date.parse(e.at)` }
  if (typeof value !== 'number' || Number.isNaN(value))
    return {
      problem: `time of "${name}" gives ${String(value)}`,
      instead: `${wanted} for every record that fits the schema`,
    }
  if (isInstant(value * 1_000))
    return {
      problem: `time of "${name}" gives ${value}: that are seconds, and would be in 1970`,
      instead: `${wanted}: times 1000`,
    }
  if (isInstant(value / 1_000))
    return { problem: `time of "${name}" gives ${value}: that are microseconds`, instead: `${wanted}: divided by 1000` }
  return { problem: `time of "${name}" gives ${value}, which is far from our days in milliseconds`, instead: wanted }
}
