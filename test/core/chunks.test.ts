import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { viewOf } from '../../core/blob.ts'
import { type Chunk, createChunks } from '../../core/chunks.ts'
import { ENTRY_HEAD_BYTES, entryBytes, readText, textBytes, writeEntry } from '../../core/entry.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-chunks-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function entryOf(key: string, value: string): Buffer {
  const bytes = Buffer.alloc(ENTRY_HEAD_BYTES + 2 * (key.length + value.length))
  const end = writeEntry(bytes, viewOf(bytes), 0, 7, 8, 9, key, value, 0)
  return bytes.subarray(0, end)
}

/** The key and the value of an entry, read back from wherever it is. */
function textsAt(chunks: ReturnType<typeof createChunks>, chunk: Chunk, offset: number): [string, string] {
  const { bytes, view, at } = chunks.read(chunk, offset)
  const keyWord = view.getInt32(at + 16, true)
  const valueAt = at + ENTRY_HEAD_BYTES + textBytes(keyWord)
  return [readText(bytes, at + ENTRY_HEAD_BYTES, keyWord), readText(bytes, valueAt, view.getInt32(at + 20, true))]
}

describe('chunks', () => {
  test.each([
    ['in memory', undefined],
    ['in a spill file', 10_000],
  ])('give back what was put into them, %s', (_, memory) => {
    let runs = 0
    const size = fc.oneof(fc.nat(200), fc.nat(9_000), fc.constantFrom(4_066, 4_067, 4_068, 4_069, 270_000))
    fc.assert(
      fc.property(
        fc.array(fc.record({ size, wide: fc.boolean(), free: fc.nat(9) }), { maxLength: 60, size: 'max' }),
        (steps) => {
          const spill = memory === undefined ? undefined : join(folder, `spill-${runs++}`)
          const chunks = createChunks({ memory: memory ?? 0, spill })
          const known = new Map<Chunk, [offset: number, key: string, value: string][]>()
          steps.forEach((step, i) => {
            const key = `${step.wide ? 'ключ' : 'key'}-${i}`
            const value = (step.wide ? 'ж' : 'v').repeat(step.size)
            const entry = entryOf(key, value)
            const chunk = chunks.copy(entry, 0, entry.length, i)
            known.set(chunk, [...(known.get(chunk) ?? []), [chunks.offset, key, value]])
            const freed = [...known.keys()].find((other) => !chunks.isOpen(other))
            if (step.free === 0 && freed) {
              chunks.free(freed)
              known.delete(freed)
            }
            chunks.shrink()
            for (const [other, entries] of known)
              for (const [offset, ...texts] of entries) expect(textsAt(chunks, other, offset)).toEqual(texts)
          })
          for (const [chunk, entries] of known) {
            const bytes = chunks.whole(chunk)
            let at = 0
            for (const [offset] of entries) {
              expect(offset).toBe(at)
              at += entryBytes(viewOf(bytes), at)
            }
            expect(at).toBe(chunk.length)
          }
          chunks.close()
        },
      ),
      { numRuns: 60 },
    )
  })

  test('spill the longest unread first, and take the places of freed ones again', () => {
    const spill = join(folder, 'spill')
    const chunks = createChunks({ memory: 3 * 262_144, spill })
    const entry = entryOf('key', 'v'.repeat(100_000))
    const used: Chunk[] = []
    const add = () => used.push(chunks.copy(entry, 0, entry.length, 0))
    for (let i = 0; i < 40; i++) {
      add()
      chunks.shrink()
      chunks.read(used[0]!, 0)
    }
    expect(chunks.held()).toBeLessThanOrEqual(4 * 262_144)
    expect(used[0]!.bytes).toBeDefined()
    expect(used[12]!.bytes).toBeUndefined()
    const { size } = statSync(spill)
    for (let round = 0; round < 10; round++) {
      const cold = [...new Set(used)].filter((chunk) => chunk.bytes === undefined)
      for (const chunk of cold) {
        chunks.free(chunk)
        while (used.includes(chunk)) used.splice(used.indexOf(chunk), 1)
      }
      for (let i = 0; i < 2 * cold.length; i++) add()
      chunks.shrink()
    }
    expect(statSync(spill).size).toBeLessThanOrEqual(size + 2 * 262_144)
    chunks.close()
    expect(readdirSync(folder)).toEqual([])
  })

  test('remove what a killed process has left, and make no file before there is need of one', () => {
    const spill = join(folder, 'cache', 'spill')
    mkdirSync(join(folder, 'cache'))
    writeFileSync(spill, 'left')
    const chunks = createChunks({ memory: 1_000_000, spill })
    expect(existsSync(spill)).toBe(false)
    chunks.shrink()
    chunks.close()
    expect(existsSync(spill)).toBe(false)
  })
})
