/**
 * How long a worker takes to have its state again after it was killed: ten million keys in an expiring set and as many
 * in a table, through the real store, whose write-ahead log is as the kill left it.
 *
 *     npx node bench/restart.ts [--keys 10000000] [--json]
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

const { values: args } = parseArgs({
  options: { keys: { type: 'string', default: '10000000' }, json: { type: 'boolean', default: false } },
})
const keys = Number(args.keys)
const STARTS = 3

interface Start {
  readonly storeOpened: number
  readonly blobsRead: number
  readonly loaded: number
  readonly total: number
}

/** Runs a part of this bench in a process of its own, and gives what it says last; `kill`: it is killed then. */
async function run(part: string, given: readonly string[], kill: boolean): Promise<unknown> {
  const child = fork(new URL(part, import.meta.url), given, { execArgv: ['--no-warnings'] })
  const exited = once(child, 'exit')
  const said = once(child, 'message')
  await Promise.race([said, exited])
  if (kill) child.kill('SIGKILL')
  await exited
  return (await Promise.race([said, Promise.reject(new Error(`${part} said nothing`))]))[0]
}

async function measure(kind: 'expiring-set' | 'table') {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-restart-'))
  try {
    const path = join(folder, 'state.db')
    const { blobs, bytes } = (await run('./restart-fill.ts', [kind, path, String(keys)], true)) as {
      blobs: number
      bytes: number
    }
    const walBytes = statSync(`${path}-wal`).size
    const starts: Start[] = []
    for (let i = 0; i < STARTS; i++)
      starts.push((await run('./restart-open.ts', [kind, path, String(keys)], true)) as Start)
    // the first start is the one that recovers the log of the killed writer
    return { keys, blobs, bytes, walBytes, first: starts[0]!, totals: starts.map(({ total }) => total) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const figures = { expiringSet: await measure('expiring-set'), table: await measure('table') }
if (args.json) console.log(JSON.stringify(figures))
else {
  for (const [name, { first, totals, bytes, blobs, walBytes }] of Object.entries(figures)) {
    console.log(
      `${name}: ${keys} keys are back after ${first.total.toFixed(0)} ms (${totals.map((total) => total.toFixed(0)).join(', ')})`,
    )
    console.log(
      `  store opened in ${first.storeOpened.toFixed(0)} ms, ${(bytes / 1e6).toFixed(0)} MB of ${blobs} blobs read in ${first.blobsRead.toFixed(0)} ms, taken in in ${first.loaded.toFixed(0)} ms; log ${(walBytes / 1e6).toFixed(0)} MB`,
    )
  }
}
