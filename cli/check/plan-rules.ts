import { type Pipeline, planOf } from '../../core/pipeline.ts'
import type { Plan, PlanNode } from '../../core/plan.ts'
import type { OutputNode, StreamNode } from '../../core/stream.ts'
import { span } from '../format.ts'
import type { Parts } from '../watched.ts'
import type { Findings } from './finding.ts'

const LONG = 2 * 365 * 86_400_000

/** What can be told from the graph alone. */
export function planRules(pipeline: Pipeline, parts: Parts, findings: Findings): void {
  const { plan } = planOf(pipeline)
  latenessRule(plan, parts, findings)
  boundsRule(plan, parts, findings)
  sinkRules(plan, parts, findings)
}

/** What was made, and is in no pipeline. */
export function unusedRules(pipelines: readonly Pipeline[], parts: Parts, findings: Findings): void {
  const used = new Set<object>()
  for (const { plan } of pipelines.map(planOf)) {
    for (const { node } of plan.nodes) used.add(node)
    for (const { node } of plan.outputs) used.add(node)
  }
  const unused = parts.all.filter((part) => !used.has(part))
  const outputs = unused.filter(isOutput)
  const fed = new Set<object>(outputs.map(({ input }) => input))
  for (const node of unused.filter(isStream)) for (const input of inputsOf(node)) fed.add(input)
  for (const output of outputs) {
    findings.add({
      code: 'OUTPUT_UNUSED',
      place: parts.siteOf(output),
      operator: output.sink,
      problem: `a branch ends in .to(${output.sink}) here, but no pipeline has it among its outputs: nothing is written`,
      instead: "give it a name among the outputs: pipeline('mine', { name: ….to(…) })",
    })
  }
  for (const node of unused.filter(isStream)) {
    if (fed.has(node)) continue
    const what = node.kind === 'source' ? `the source "${node.name}"` : `the stream that ${nameOf(node)} gives`
    findings.add({
      code: 'STREAM_UNUSED',
      place: parts.siteOf(node.kind === 'operator' ? node.definition : node),
      operator: node.kind === 'source' ? node.name : nameOf(node),
      problem: `${what} is used by nothing: a stream is a description, and .pipe gives a new one, without changing the one before`,
      instead: 'take what .pipe gives (const next = events.pipe(…)), and end it in .to(sink), or delete it',
    })
  }
}

function latenessRule(plan: Plan, parts: Parts, findings: Findings): void {
  for (const source of plan.sources) {
    if (source.node.options.lateness !== undefined) continue
    const waits = below(plan, source).find(
      ({ node }) =>
        node.kind === 'operator' &&
        Object.values(node.definition.state ?? {}).some((piece) => piece.kind === 'timers' && piece.clock === 'event'),
    )
    if (!waits) continue
    findings.add({
      code: 'LATENESS_MISSING',
      place: parts.siteOf(source.node),
      operator: source.name,
      problem: `the source "${source.name}" says no lateness, and ${waits.name} waits by its event time: the first newer record ends the wait, and one that was overtaken on its way comes too late`,
      instead:
        "say how far records may be out of order: lateness: '1m'; or lateness: '0s', if they come in the order of their time",
    })
  }
}

function boundsRule(plan: Plan, parts: Parts, findings: Findings): void {
  for (const { node, name } of plan.nodes) {
    // a record of a person has no end, and reconcile is there to keep it
    if (node.kind !== 'operator' || node.definition.kind === 'reconcile') continue
    for (const [piece, declaration] of Object.entries(node.definition.state ?? {})) {
      if (declaration.kind === 'timers') continue
      const lasts = declaration.kind === 'table' ? declaration.ttl : declaration.within
      if (lasts <= LONG) continue
      findings.add({
        code: 'STATE_UNBOUNDED',
        place: parts.siteOf(node.definition),
        operator: name,
        problem: `${name} keeps ${piece} ${Number.isFinite(lasts) ? `for ${span(lasts)}` : 'for ever'} a key: with new keys every day the state only grows`,
        instead: 'a ttl or within as short as the question allows: days or weeks',
      })
    }
  }
}

function sinkRules(plan: Plan, parts: Parts, findings: Findings): void {
  for (const output of plan.outputs) {
    const { to } = output.node
    const place = parts.siteOf(output.node)
    const options = parts.optionsOf(to)
    const operator = output.name
    if (to.kind === 'esp' && options && options.cause === undefined && !above(plan, output.input).some(knowsRepeats)) {
      findings.add({
        code: 'REPEATS_REACH_PEOPLE',
        place,
        operator,
        problem: `the mails of "${operator}" come straight from records: when a record is delivered twice, which every broker does now and then, it is another cause, and a second mail`,
        instead:
          "give esp a cause, such as cause: (e) => e.orderId, or drop repeats before: dedup({ by: (e) => e.eventId, within: '24h' })",
      })
    }
    if (to.kind === 'redis' && options?.ttl === 'forever') {
      findings.add({
        code: 'KEPT_FOREVER',
        place,
        operator,
        problem: `redis keeps the keys of "${operator}" for ever: they only become more`,
        instead: "nothing, if there are only so many; otherwise a ttl such as ttl: '30d'",
      })
    }
    if (to.guarantee === 'idempotent') continue
    const when =
      to.guarantee === 'ledger'
        ? `${to.kind} cannot tell a batch that is sent again: after a crash at the wrong moment, rows of "${operator}" come twice`
        : `${to.kind} tells a batch that is sent again for a while only: after that, what is in doubt is parked for you to decide`
    if (to.touches === 'people') {
      findings.add({
        code: 'PEOPLE_UNGUARDED',
        place,
        operator,
        problem: `"${operator}" reaches people, and ${when}`,
        instead: 'reach people through a sink that tells repeats, such as esp',
      })
    } else {
      findings.add({
        code: 'AT_LEAST_ONCE',
        place,
        operator,
        problem: when,
        instead:
          'nothing, to look at a pipeline at work; for rows that count, take a sink that is idempotent, such as file or clickhouse',
      })
    }
  }
}

/** Gives one result for a record that comes twice. */
function knowsRepeats({ node }: PlanNode): boolean {
  if (node.kind !== 'operator') return false
  const state = Object.values(node.definition.state ?? {})
  return state.some((piece) => piece.kind === 'expiring-set' || (piece.kind === 'timers' && piece.clock === 'event'))
}

function above(plan: Plan, id: number): PlanNode[] {
  const node = plan.nodes[id]!
  return [node, ...node.inputs.flatMap((input) => above(plan, input))]
}

function below(plan: Plan, from: PlanNode): PlanNode[] {
  const reached = new Set([from.id])
  return plan.nodes.filter((node) => {
    if (node.inputs.some((input) => reached.has(input))) reached.add(node.id)
    return reached.has(node.id)
  })
}

function isOutput(part: object): part is OutputNode {
  return 'lane' in part && 'to' in part
}

function isStream(part: object): part is StreamNode {
  return 'kind' in part && !isOutput(part) && ('run' in part || 'options' in part || 'inputs' in part || 'of' in part)
}

function inputsOf(node: StreamNode): readonly object[] {
  if (node.kind === 'source') return []
  if (node.kind === 'merge') return node.inputs
  if (node.kind === 'side') return [node.of]
  return [node.input]
}

function nameOf(node: StreamNode): string {
  if (node.kind === 'operator') return node.definition.name ?? node.definition.kind
  if (node.kind === 'foreign') return node.label
  return node.kind === 'side' ? `side ${node.name}` : node.kind
}
