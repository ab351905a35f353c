import { join } from 'node:path'
import { expect, test } from 'vitest'
import { POINTS } from './kill-worker.ts'
import { killWorkers } from './kills.ts'

const FILE = join(import.meta.dirname, '../../../shared/data/retailrocket_dirty.jsonl')
const KILLS = process.env.CI ? 200 : 24

test(`killed with SIGKILL ${KILLS} times, at every point and at random, it comes to the same end`, async () => {
  const { kills, lost, doubled, problems, points } = await killWorkers({ kills: KILLS, file: FILE })
  expect({ kills, lost, doubled, problems }).toEqual({ kills: KILLS, lost: 0, doubled: 0, problems: [] })
  if (KILLS >= 100) expect(Object.keys(points).sort()).toEqual([...POINTS, 'any moment'].sort())
}, 900_000)
