import type { Journal, Journalled } from './state.ts'

/** A journal that can be marked and undone to a mark. */
export interface UndoJournal extends Journal {
  /** The place to undo to. */
  mark(): number
  /** Takes back all that was noted since the mark, the last first. */
  undoTo(mark: number): void
  /** Forgets all notes: what they undo is durable. */
  clear(): void
}

/** One journal for all state of a task. */
export function createJournal(): UndoJournal {
  const notes: Journalled[] = []
  return {
    note: (owner) => {
      notes.push(owner)
    },
    mark: () => notes.length,
    undoTo(mark) {
      while (notes.length > mark) notes.pop()!.undo()
    },
    clear() {
      notes.length = 0
    },
  }
}
