import { existsSync } from 'node:fs'
import { describe } from '../../core/compaction.ts'
import { messageOf } from '../../core/errors.ts'
import { type Pipeline, planOf } from '../../core/pipeline.ts'
import { existingDataDir, statePath } from '../data-dir.ts'
import { DEFAULT_DATA } from '../defaults.ts'
import { counted } from '../format.ts'
import { type Inspector, inspecting } from '../store.ts'
import type { Parts } from '../watched.ts'
import type { Findings } from './finding.ts'

/**
 * Compares a pipeline with what is stored of it: what a start would refuse.
 *
 * @param place the data directory, or the Redis that keeps the state; neither looks at the usual directory, if it is there
 * @returns what was compared, in a few words
 * @throws MillraceError NOT_FOUND when a directory was named that is not there; STATE_DAMAGED, STATE_TOO_NEW
 */
export async function storedRules(
  pipeline: Pipeline,
  parts: Parts,
  { data, store }: { data?: string | undefined; store?: string | undefined },
  findings: Findings,
): Promise<string> {
  if (store)
    return inspecting({ data: DEFAULT_DATA, store }, (inspector) =>
      compare(pipeline, parts, inspector, 'the store', findings),
    )
  if (data === undefined && !existsSync(statePath(DEFAULT_DATA))) return 'nothing is stored'
  const folder = existingDataDir(data ?? DEFAULT_DATA)
  if (!existsSync(statePath(folder))) return `nothing is stored in ${data}`
  return inspecting({ data: folder }, (inspector) =>
    compare(pipeline, parts, inspector, data ?? DEFAULT_DATA, findings),
  )
}

async function compare(
  pipeline: Pipeline,
  parts: Parts,
  inspector: Inspector,
  data: string,
  findings: Findings,
): Promise<string> {
  const { plan } = planOf(pipeline)
  const tasks = (await inspector.tasks()).filter(({ task }) => task.startsWith(`${pipeline.name}/`))
  for (const { task, facts } of tasks) {
    if (facts === undefined) continue
    const { slots, sources } = JSON.parse(facts) as { slots: Record<string, string>; sources: Record<string, unknown> }
    for (const [slot, kind] of Object.entries(slots)) {
      if (plan.slots[slot] === kind) continue
      const operator = slot.slice(0, slot.lastIndexOf('/'))
      findings.add({
        code: 'STATE_ORPHANED',
        place: undefined,
        operator,
        problem: `${data} holds state of the operator "${operator}" (${slot}, ${kind}), which the pipeline no longer has: a start would be refused`,
        instead: `if it has another name now, start with --rename-state ${operator}=NEWNAME; if it is no longer wanted, with --drop-state ${operator}`,
      })
    }
    for (const source of Object.keys(sources)) {
      if (plan.sources.some(({ name }) => name === source)) continue
      findings.add({
        code: 'SOURCE_GONE',
        place: undefined,
        operator: source,
        problem: `${data} holds the position of the source "${source}", which the pipeline no longer reads: a start would be refused`,
        instead: 'give the source its former name, or use another --data directory',
      })
    }
    for (const { sink } of await inspector.lanes(task)) {
      if (plan.outputs.some(({ name }) => name === sink)) continue
      findings.add({
        code: 'OUTPUT_GONE',
        place: undefined,
        operator: sink,
        problem: `in ${data}, batches are staged for the output "${sink}", which the pipeline no longer has: a start would be refused`,
        instead: 'deliver them with the former version, or start with --to-dead-letters',
      })
    }
    await shapes(pipeline, parts, inspector, task, findings)
  }
  return tasks.length === 0
    ? `${data} holds nothing of it`
    : `compared with ${counted(tasks.length, 'task')} in ${data}`
}

/** Reads stored values by the schemas of their operators, as a start would. */
async function shapes(
  pipeline: Pipeline,
  parts: Parts,
  inspector: Inspector,
  task: string,
  findings: Findings,
): Promise<void> {
  for (const { node, name } of planOf(pipeline).plan.nodes) {
    if (node.kind !== 'operator') continue
    for (const [piece, declaration] of Object.entries(node.definition.state ?? {})) {
      if (declaration.kind !== 'table' || !declaration.revive) continue
      const blobs = await inspector.blobs(task, `${name}/${piece}`)
      if (blobs.length === 0) continue
      const entries = describe(
        blobs[0]!.format,
        blobs.map(({ bytes }) => bytes),
      )
      try {
        for (const { value } of entries) declaration.revive(value)
      } catch (error) {
        findings.add({
          code: 'STATE_SHAPE',
          place: parts.siteOf(node.definition),
          operator: name,
          problem: messageOf(error),
          instead: 'give new fields a default in the schema of the state, and keep old ones, or let it transform them',
        })
      }
    }
  }
}
