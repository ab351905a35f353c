import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { chance } from '../simulation/chance.ts'
import { compare, WORKER } from './kills.ts'

const DIRTY = join(import.meta.dirname, '../../../shared/data/retailrocket_dirty.jsonl')
const TRIALS = process.env.CI ? 30 : 9
const FILES = ['state.db', 'state.db-wal']
const random = chance(20_26)

let folder: string
let dataDir: string
let file: string
let lines: string[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-damage-'))
  dataDir = join(folder, 'data')
  file = join(folder, 'events.jsonl')
  lines = readFileSync(DIRTY, 'latin1').trimEnd().split('\n').slice(0, 1_500)
  writeFileSync(file, `${lines.join('\n')}\n`, 'latin1')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

async function run(at?: string, occasion = 0): Promise<{ code: number | null; said: string }> {
  const env = { ...process.env, ...(at ? { MILLRACE_KILL_AT: at, MILLRACE_KILL_OCCASION: String(occasion) } : {}) }
  const child = spawn(process.execPath, ['--conditions=source', WORKER, dataDir, file], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env,
  })
  const [said, code] = await Promise.all([
    text(child.stderr),
    new Promise<number | null>((resolve) => child.on('exit', resolve)),
  ])
  return { code, said }
}

/** Damages what a killed worker has left; says how. */
const DAMAGES: Readonly<Record<string, () => void>> = {
  'bits are flipped'() {
    const path = join(dataDir, random.one(FILES.filter((name) => existsSync(join(dataDir, name)))))
    const bytes = readFileSync(path)
    for (let i = random.whole(1, 3); i > 0; i--) bytes[random.whole(0, bytes.length - 1)]! ^= 1 << random.whole(0, 7)
    writeFileSync(path, bytes)
  },
  'it is cut off'() {
    const path = join(dataDir, random.one(FILES.filter((name) => existsSync(join(dataDir, name)))))
    truncateSync(path, random.whole(0, readFileSync(path).length - 1))
  },
  'an old copy is put back'() {
    for (const name of FILES) {
      rmSync(join(dataDir, name), { force: true })
      if (existsSync(join(folder, name))) copyFileSync(join(folder, name), join(dataDir, name))
    }
    rmSync(join(dataDir, 'state.db-shm'), { force: true })
  },
}

test(`a state file that was damaged in ${TRIALS} ways is refused with a reason, or the damage changes nothing`, async () => {
  const seen = { refused: 0, harmless: 0 }
  for (let trial = 0; trial < TRIALS; trial++) {
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 10 })
    expect((await run('after a commit', random.whole(2, 8))).code).toBe(null)
    for (const name of FILES) if (existsSync(join(dataDir, name))) copyFileSync(join(dataDir, name), join(folder, name))
    expect((await run('after a commit', random.whole(2, 8))).code).toBe(null)
    const [how, damage] = Object.entries(DAMAGES)[trial % 3]!
    damage()
    const { code, said } = await run()
    if (code === 0) {
      seen.harmless++
      expect(await compare(dataDir, lines), how).toEqual({ lost: 0, doubled: 0, problems: [] })
      expect(how).not.toBe('an old copy is put back')
    } else {
      seen.refused++
      expect(said, how).toMatch(/code: 'STATE_(DAMAGED|BEHIND|FAILED)'/)
    }
  }
  expect(seen.refused).toBeGreaterThanOrEqual(TRIALS / 3)
}, 600_000)
