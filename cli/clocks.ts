import { describe } from '../core/compaction.ts'
import { type Pipeline, planOf } from '../core/pipeline.ts'
import { type Clock, skewOf } from '../operators/reconcile/clocks.ts'
import { span } from './format.ts'
import { inspecting, type StatePlace } from './store.ts'

/** How far the clock of a source runs ahead, milliseconds, as an operator `reconcile` has estimated it; below zero, behind. */
export interface SourceClock {
  readonly operator: string
  readonly source: string
  readonly ahead: number
}

/** What each `reconcile` of a pipeline knows of its sources' clocks, over all partitions, as of the last commit. */
export async function clocksOf(pipeline: Pipeline, place: StatePlace): Promise<SourceClock[]> {
  const { nodes } = planOf(pipeline).plan
  const names = nodes.flatMap(({ node, name }) =>
    node.kind === 'operator' && node.definition.kind === 'reconcile' ? [name] : [],
  )
  if (names.length === 0) return []
  return inspecting(place, async (inspector) => {
    const slots = (await inspector.slots()).filter(({ task }) => task.startsWith(`${pipeline.name}/`))
    const clocks: SourceClock[] = []
    for (const operator of names) {
      const ahead = new Map<string, number>()
      for (const { task, slot, format } of slots.filter(({ slot }) => slot === `${operator}/clocks`)) {
        const blobs = (await inspector.blobs(task, slot)).map(({ bytes }) => bytes)
        for (const entry of describe(format, blobs)) {
          const { key, value } = entry as { key: string; value: Clock }
          ahead.set(key, Math.max(skewOf(value), ahead.get(key) ?? Number.NEGATIVE_INFINITY))
        }
      }
      clocks.push(...[...ahead].sort().map(([source, most]) => ({ operator, source, ahead: most })))
    }
    return clocks
  })
}

/** `clocks of reconcile: crm 3 min ahead, web 2.0 s behind`. */
export function clocksText(clocks: readonly SourceClock[]): string {
  return [...Map.groupBy(clocks, ({ operator }) => operator)]
    .map(
      ([operator, own]) =>
        `clocks of ${operator}: ${own.map(({ source, ahead }) => `${source} ${span(Math.abs(ahead))} ${ahead > 0 ? 'ahead' : 'behind'}`).join(', ')}, by the quickest event of each\n`,
    )
    .join('')
}
