import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { compare, WORKER } from './kills.ts'

const DATA = join(import.meta.dirname, '../../../shared/data')
const DIRTY = join(DATA, 'retailrocket_dirty.jsonl')
const wanted = readFileSync(DIRTY, 'latin1').trimEnd().split('\n')
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-stopped-'))
})
afterEach(() => rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 }))

function start() {
  const child = spawn(process.execPath, ['--conditions=source', WORKER, dataDir, DIRTY], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const said = text(child.stderr)
  const ended = new Promise<{ code: number | null; said: string }>((resolve) => {
    child.on('exit', async (code) => resolve({ code, said: await said }))
  })
  return { child, ended, running: () => child.exitCode === null && child.signalCode === null }
}

test('a worker that is stopped for a while goes on where it was, and nobody takes its place meanwhile', async () => {
  const { child, ended, running } = start()
  const refused: string[] = []
  let stops = 0
  while (running() && !existsSync(join(dataDir, 'lock.pid'))) await sleep(20)
  while (running() && stops < 8) {
    child.kill('SIGSTOP')
    stops++
    if (stops % 3 === 1) refused.push((await start().ended).said)
    else await sleep(200 + 600 * Math.random())
    child.kill('SIGCONT')
    await sleep(100 * Math.random())
  }
  expect((await ended).code).toBe(0)
  expect(stops).toBeGreaterThan(2)
  expect(refused.length).toBeGreaterThan(0)
  for (const said of refused) expect(said).toMatch(/DATA_DIR_IN_USE|is in use by process \d+/)
  expect(await compare(dataDir, wanted)).toEqual({ lost: 0, doubled: 0, problems: [] })
}, 120_000)

test('the warehouse killed or stopped on its own, again and again, loses nothing', async () => {
  let hits = 0
  /** One worker, from beginning to end. */
  const hitWhileItWorks = async () => {
    const { ended, running } = start()
    for (let here = 0; running() && here < 10; ) {
      const pid = warehousePid()
      if (pid === undefined) {
        await sleep(20)
        continue
      }
      await sleep(200 * Math.random())
      try {
        if (hits % 2 === 0) process.kill(pid, 'SIGKILL')
        else {
          process.kill(pid, 'SIGSTOP')
          await sleep(500)
          process.kill(pid, 'SIGCONT')
        }
        hits++
        here++
      } catch {
        // it had come to its end by itself
      }
      await sleep(150)
    }
    const { code, said } = await ended
    expect(code, said).toBe(0)
    expect(await compare(dataDir, wanted)).toEqual({ lost: 0, doubled: 0, problems: [] })
  }
  await hitWhileItWorks()
  // on a fast machine the work is done before it was hit often
  for (let more = 0; hits <= 3 && more < 10; more++) {
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 })
    await hitWhileItWorks()
  }
  expect(hits).toBeGreaterThan(3)
}, 240_000)

/** The process of the warehouse in the data directory: its command line names it. */
function warehousePid(): number | undefined {
  for (const pid of existsSync('/proc') ? readdirSync('/proc') : []) {
    if (!/^\d+$/.test(pid)) continue
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      if (command.includes('warehouse-process') && command.includes(dataDir)) return Number(pid)
    } catch {
      // it is gone
    }
  }
  return undefined
}
