import type { GroupRecord } from './group.ts'
import type { Store } from './store.ts'

/** What a group is told beside a position: which store it is of, and which epoch (engine rule 13). */
interface Testimony {
  readonly store: string
  readonly epoch: number
}

/** The note of a `GroupRecord`. */
export function testimony({ id }: Pick<Store, 'id'>, epoch: number): string {
  return JSON.stringify({ store: id, epoch } satisfies Testimony)
}

/**
 * What speaks against a task's store, from what its group was told: it is behind, or another one, so that it was put back
 * or lost. The text goes on from the group's name, and ends where the way to go on all the same may follow.
 */
export function contradiction(
  { note, next }: GroupRecord,
  source: string,
  { store, epoch }: { readonly store: Pick<Store, 'id'>; readonly epoch: number },
): string | undefined {
  const told = read(note)
  if (!told)
    return epoch > 0
      ? undefined
      : `has a position of "${source}" (${next}) that Millrace did not write, and the store knows nothing of this task. Give the group another name, or delete its offsets; to begin where the source's options say`
  if (told.store !== store.id)
    return `was told of epoch ${told.epoch} by another store (${told.store}), and this one (${store.id}) is at epoch ${epoch}: the state of before is elsewhere. Start with that store; to begin anew with this one`
  if (told.epoch > epoch)
    return `was told of epoch ${told.epoch}, and the store is at ${epoch}: it is an older copy, or has lost commits. Restore the newest; to go on from this one, and see what came since again`
  return undefined
}

function read(note: string): Testimony | undefined {
  try {
    const { store, epoch } = JSON.parse(note)
    return typeof store === 'string' && Number.isInteger(epoch) ? { store, epoch } : undefined
  } catch {
    return undefined
  }
}
