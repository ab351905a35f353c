import { expect, test } from 'vitest'
import { createJournal } from '../../core/journal.ts'

test('undoes the notes since a mark, the last first, and no other', () => {
  const journal = createJournal()
  const undone: string[] = []
  const owner = (name: string) => ({ undo: () => undone.push(name) })
  journal.note(owner('a'))
  const mark = journal.mark()
  journal.note(owner('b'))
  journal.note(owner('c'))
  journal.undoTo(mark)
  expect(undone).toEqual(['c', 'b'])
  journal.undoTo(mark)
  expect(undone).toEqual(['c', 'b'])
  journal.undoTo(0)
  expect(undone).toEqual(['c', 'b', 'a'])
})

test('forgets what was cleared', () => {
  const journal = createJournal()
  journal.note({ undo: () => expect.unreachable() })
  journal.clear()
  expect(journal.mark()).toBe(0)
  journal.undoTo(0)
})
