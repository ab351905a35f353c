import type { Change } from '../core/store.ts'

/** What a store knows of a task when it judges a change. */
export interface TaskView {
  readonly epoch: number
  readonly blobs: ReadonlyMap<number, { readonly slot: string; readonly order: number }>
  readonly batches: ReadonlyMap<string, BatchView>
}

interface BatchView {
  readonly sink: string
  readonly attempts: number
  readonly group?: string
}

/**
 * Why a change cannot be applied to what is stored; undefined when it can. Every store asks this before its first
 * write, so that a change is applied whole or not at all.
 */
export function refusal(task: TaskView, change: Change): string | undefined {
  const { epoch, facts, staged = [], lanes = [] } = change
  if (epoch !== undefined && epoch !== task.epoch + 1) return `epoch ${epoch} does not follow epoch ${task.epoch}`
  if (facts !== undefined && !facts.isWellFormed()) return 'the facts are not well-formed text'

  const changed = new Map<string, BatchView | undefined>()
  const find = (name: string) => (changed.has(name) ? changed.get(name) : task.batches.get(name))
  for (const { name, sink } of staged) {
    if (find(name)) return `batch ${name} is staged already`
    changed.set(name, { sink, attempts: 0 })
  }
  for (const { sink, remove = [], replace, group, attempts = [] } of lanes) {
    const named = [...remove, ...(replace ? [replace.of] : []), ...(group?.members ?? []), ...attempts]
    const stranger = named.find((name) => find(name)?.sink !== sink)
    if (stranger !== undefined) return `batch ${stranger} is not in the lane of ${sink}`
    if (replace && find(replace.by.name)) return `batch ${replace.by.name} is staged already`
    if (replace && replace.by.sink !== sink) return `batch ${replace.by.name} is not for ${sink}`
    const used = group?.members.find((name) => find(name)!.group !== undefined || find(name)!.attempts > 0)
    if (used !== undefined) return `batch ${used} was grouped or attempted before`
    for (const name of remove) changed.set(name, undefined)
    if (replace) changed.set(replace.of, undefined).set(replace.by.name, { sink, attempts: 0 })
  }
  return refusedSlots(task, change)
}

function refusedSlots(
  task: TaskView,
  { dropSlots = [], renameSlots = {}, compactions = [] }: Change,
): string | undefined {
  if (dropSlots.length + compactions.length + Object.keys(renameSlots).length === 0) return undefined
  const slots = new Map<string, number[]>()
  for (const [id, { slot }] of [...task.blobs].sort((a, b) => a[1].order - b[1].order)) {
    const ids = slots.get(slot)
    if (ids) ids.push(id)
    else slots.set(slot, [id])
  }
  for (const slot of dropSlots) slots.delete(slot)
  for (const [from, to] of Object.entries(renameSlots)) {
    const ids = slots.get(from)
    if (ids && slots.has(to)) return `slot ${from} cannot be renamed: there is a slot ${to}`
    if (ids) slots.set(to, ids)
    slots.delete(from)
  }
  const gone = new Set<number>()
  for (const { slot, replaces } of compactions) {
    const ids = slots.get(slot) ?? []
    const at = ids.indexOf(replaces[0] ?? -1)
    const adjacent = at >= 0 && replaces.every((id, index) => ids[at + index] === id)
    if (!adjacent || replaces.some((id) => gone.has(id)))
      return `blobs ${replaces.join(', ')} do not follow one another in ${slot}`
    for (const id of replaces) gone.add(id)
  }
  return undefined
}
