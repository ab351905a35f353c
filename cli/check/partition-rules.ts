import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { keyText } from '../../core/operator.ts'
import { type Pipeline, planOf } from '../../core/pipeline.ts'
import type { Plan, PlanNode } from '../../core/plan.ts'
import { counted } from '../format.ts'
import type { Parts } from '../watched.ts'
import type { Findings } from './finding.ts'
import { inputSample, type Sample } from './samples.ts'

/** Records of a partition that are looked at. */
const MOST = 1_000

/**
 * Looks into the embedded logs of a data directory: whether each key is in one partition, as the state of it is.
 *
 * @returns how many partitions each source has, as far as that is known
 */
export async function partitionRules(
  pipeline: Pipeline,
  parts: Parts,
  data: string,
  findings: Findings,
): Promise<ReadonlyMap<PlanNode, number>> {
  const known = new Map<PlanNode, number>()
  for (const source of planOf(pipeline).plan.sources) {
    const { topic, log = topic, partitions, brokers } = source.node.options as Partial<Record<string, any>>
    if (partitions !== undefined) known.set(source, partitions)
    // a real system is not asked: a check needs none
    if (log === undefined || brokers !== undefined || !existsSync(join(data, 'logs', log, 'log.json'))) continue
    const samples = await inputSample(source.node.source, data, MOST)
    known.set(source, samples.length)
    const where = new Map<string, Set<number>>()
    for (const [partition, sample] of samples.entries()) {
      for (const key of keysOf(source, sample)) where.set(key, (where.get(key) ?? new Set()).add(partition))
    }
    const apart = [...where.values()].filter(({ size }) => size > 1).length
    if (apart === 0) continue
    findings.add({
      code: 'KEY_APART',
      place: parts.siteOf(source.node),
      operator: source.name,
      problem: `${apart} of ${counted(where.size, 'key')} that "${source.name}" gives are in several of its ${samples.length} partitions, which keep state of their own: each of them counts a part`,
      instead:
        'give the records the key that they are read by when they are produced, so that one key is in one partition; or read by the key that they have',
    })
  }
  return known
}

/** Keys of records that a keyBy has brought together from several keys of a source, although they are in several partitions. */
export function rekeyedRule(
  plan: Plan,
  parts: Parts,
  partitions: ReadonlyMap<PlanNode, number>,
  rekeyed: ReadonlyMap<PlanNode, ReadonlyMap<string, ReadonlySet<string>>>,
  findings: Findings,
): void {
  for (const [node, keys] of rekeyed) {
    if (node.node.kind !== 'operator' || node.node.definition.kind !== 'keyBy') continue
    const most = Math.max(1, ...above(plan, node).map((each) => partitions.get(each) ?? 1))
    const shared = [...keys.values()].filter(({ size }) => size > 1).length
    const keeps = stateBehind(plan, node)
    if (most === 1 || shared * 2 < keys.size || keeps === undefined) continue
    findings.add({
      code: 'KEY_APART',
      place: parts.siteOf(node.node.definition),
      operator: node.name,
      problem: `${node.name} gives records of several keys one key, but leaves them in their ${most} partitions: ${keeps.name} keeps a state of that key in each, and each counts a part`,
      instead:
        'put repartition in the place of keyBy: it brings each record to the partition of its key. Only a finer key, such as a device of the person that the source is keyed by, follows the partition',
    })
  }
}

function keysOf({ node }: PlanNode & { node: { kind: 'source' } }, sample: Sample): Set<string> {
  const { schema, key } = (node as Plan['sources'][number]['node']).options
  const keys = new Set<string>()
  for (const record of sample.records) {
    try {
      const result = schema['~standard'].validate(sample.decode(record))
      if (!(result instanceof Promise) && !result.issues) keys.add(keyText(key(result.value as never), 'key'))
    } catch {
      // what does not decode, or has no key, is told about elsewhere
    }
  }
  return keys
}

function above(plan: Plan, node: PlanNode): PlanNode[] {
  return [node, ...node.inputs.flatMap((input) => above(plan, plan.nodes[input]!))]
}

/** The first operator behind a node that keeps state by the stream's key, before it is another one. */
function stateBehind(plan: Plan, from: PlanNode): PlanNode | undefined {
  const reached = new Set([from.id])
  for (const each of plan.nodes) {
    if (!each.inputs.some((input) => reached.has(input))) continue
    const { kind, state, keyed } =
      each.node.kind === 'operator'
        ? each.node.definition
        : { kind: each.node.kind, state: undefined, keyed: undefined }
    if (kind === 'keyBy' || kind === 'repartition') continue
    if (keyed !== undefined && Object.keys(state ?? {}).length > 0) return each
    reached.add(each.id)
  }
  return undefined
}
