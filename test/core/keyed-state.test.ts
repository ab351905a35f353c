import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createJournal } from '../../core/journal.ts'
import { createState } from '../../core/keyed-state.ts'
import { SECRET } from '../support/kept-state.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-state-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const deps = () => ({ clock: { watermark: 0 }, journal: createJournal(), secret: SECRET })

describe('the state that an operator declares', () => {
  test('is of the kind that it says, with its time to live', () => {
    const given = deps()
    const set = createState({ kind: 'expiring-set', within: 10 }, given)
    const table = createState({ kind: 'table', ttl: 20, revive: (stored) => ({ stored }) }, given)
    const timers = createState({ kind: 'timers', clock: 'event' }, given)
    expect([set.format, table.format, timers.format]).toEqual(['expiring-set/1', 'table/1', 'timers/1'])
    set.add('a', 1)
    table.set('a', 'value', 1)
    timers.set('a', 1)
    expect(table.get('a')).toEqual({ stored: 'value' })
    expect(timers.peek()).toMatchObject({ key: 'a', time: 1 })
    given.clock.watermark = 11
    expect(set.add('a', 2)).toBe('added')
    given.clock.watermark = 21
    expect(table.get('a')).toBeUndefined()
  })

  test('is undone together, the last change first', () => {
    const given = deps()
    const table = createState({ kind: 'table', ttl: 20 }, given)
    const timers = createState({ kind: 'timers', clock: 'event' }, given)
    table.set('a', 1, 1)
    const mark = given.journal.mark()
    timers.set('a', 1)
    table.set('a', 2, 2)
    table.delete('a')
    timers.take()
    given.journal.undoTo(mark)
    expect(table.get('a')).toBe(1)
    expect(timers.size).toBe(0)
  })

  test('keeps in memory what its cache allows, the rest in a file that goes when it is closed', () => {
    const path = join(folder, 'cache', 'carts')
    const table = createState({ kind: 'table', ttl: 1e9 }, { ...deps(), cache: { path, bytes: 100_000 } })
    for (let epoch = 0; epoch < 50; epoch++) {
      for (let i = 0; i < 100; i++) table.set(`key-${epoch}-${i}`, { text: 'x'.repeat(400) }, epoch)
      table.delta()
      table.sealed()
    }
    expect(existsSync(path)).toBe(true)
    for (let epoch = 0; epoch < 50; epoch++) expect(table.get(`key-${epoch}-7`)).toEqual({ text: 'x'.repeat(400) })
    table.close()
    table.close()
    expect(readdirSync(join(folder, 'cache'))).toEqual([])
  })

  test('removes at once what a killed worker has left of its cache', () => {
    const path = join(folder, 'cache', 'carts')
    mkdirSync(join(folder, 'cache'))
    writeFileSync(path, 'left')
    createState({ kind: 'table', ttl: 1 }, { ...deps(), cache: { path, bytes: 100_000 } })
    expect(existsSync(path)).toBe(false)
  })

  test('refuses a value that is too large, by the name of its operator and without a word of it', () => {
    const table = createState({ kind: 'table', ttl: 1 }, { ...deps(), name: 'carts/lines' })
    table.set('ann@example.com', 'small', 0)
    const largest = 16 * 1024 * 1024
    table.set('a', 'x'.repeat(largest - 3), 0)
    expect(() => table.set('ann@example.com', 'x'.repeat(largest), 0)).toThrow(
      expect.objectContaining({
        code: 'STATE_TOO_LARGE',
        message:
          'carts/lines: a key of 15 characters was given a value of 16777218 characters of JSON, and both together may have 16777216. Keep less of it, such as the latest entries only, or spread it over several keys',
      }),
    )
    expect(table.get('ann@example.com')).toBe('small')
    expect(() => table.set('ab', 'x'.repeat(largest - 3), 0)).toThrow('a key of 2 characters')
  })
})
