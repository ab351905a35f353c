import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const MAIN = new URL('main.ts', import.meta.url).pathname

/** Runs the simulator as `npm run simulate` does, and gives its last line. */
async function simulate(...args: string[]): Promise<Record<string, unknown>> {
  const all = ['--conditions=source', MAIN, ...args]
  const { stdout } = await promisify(execFile)(process.execPath, all, { maxBuffer: 1e8 }).catch((error) => error)
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

const SCHEDULES = process.env.CI ? 10_000 : 1_000

test(`through ${SCHEDULES} schedules of crashes, lost answers and full disks nothing is lost, doubled or out of order`, async () => {
  const { seconds, crashes, unknownOutcomes, ...result } = await simulate('--schedules', String(SCHEDULES))
  expect(result).toEqual({ schedules: SCHEDULES, lost: 0, doubled: 0, otherViolations: 0 })
  expect(crashes).toBeGreaterThan(SCHEDULES)
  expect(unknownOutcomes).toBeGreaterThan(SCHEDULES)
}, 900_000)

test('an engine that is broken in any known way is seen within 100 seeds', async () => {
  const { mutants, caught, missed } = await simulate('--mutants')
  expect(missed ?? []).toEqual([])
  expect(caught).toBe(mutants)
  expect(mutants).toBeGreaterThanOrEqual(12)
}, 900_000)

test('a seed gives the same schedule again', async () => {
  const trace = async () =>
    (await promisify(execFile)(process.execPath, ['--conditions=source', MAIN, '--seed', '5', '--trace'])).stdout
  const [first, second] = await Promise.all([trace(), trace()])
  expect(first).toContain('life 1 begins')
  expect(first).toBe(second)
})
