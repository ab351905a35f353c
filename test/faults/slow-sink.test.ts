import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-slow-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** The most memory that the worker may take, whatever the source holds: lanes, epochs under way and Node itself. */
const BOUND_MB = 600

test('behind a sink that takes a batch a second, a source of five million records stands still, and nothing is lost', async () => {
  const records = 5_000_000
  const script = new URL('../support/slow-sink-worker.ts', import.meta.url).pathname
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--conditions=source',
    script,
    folder,
    String(records),
    '12',
  ])
  const { before, after, paused, memoryMB, peakMemoryMB, ...end } = JSON.parse(stdout)
  expect(paused).toBe(true)
  // a batch or two leave in the meantime, and let as much in
  expect(after.taken - before.taken).toBeLessThan(records / 10)
  expect(after.read).toBeLessThan(records)
  // the other lane has gone on to all that was read, while the slow one is at its bound
  expect(after.quick).toBeGreaterThan(0.9 * after.read)
  expect(after.slow).toBeLessThan(after.quick / 2)
  expect(memoryMB).toBeLessThan(BOUND_MB)
  expect(peakMemoryMB).toBeLessThan(BOUND_MB)
  expect(end).toEqual({ read: records, slow: records, quick: records })
}, 120_000)
