import { join } from 'node:path'
import { expect, test } from 'vitest'
import { need } from '../support/servers/need.ts'
import { disturbSystems } from './systems.ts'

const FILE = join(import.meta.dirname, '../../../shared/data/retailrocket_dirty.jsonl')
const FAULTS = process.env.CI ? 500 : 60

need('kafka', 'redis')('real systems under faults', () => {
  test(`${FAULTS} faults of workers, broker and networks lose nothing and double nothing, and nothing is left to read`, async () => {
    const { faults, lost, doubled, lag, problems, kinds } = await disturbSystems({ faults: FAULTS, file: FILE })
    expect({ lost, doubled, lag, problems }).toEqual({ lost: 0, doubled: 0, lag: 0, problems: [] })
    expect(faults).toBeGreaterThanOrEqual(FAULTS)
    if (FAULTS >= 500)
      expect(Object.keys(kinds)).toEqual(
        expect.arrayContaining(['worker killed', 'worker stopped', 'worker came and went', 'broker restart']),
      )
  }, 780_000)
})
