import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { shopSource } from '../sources/shop.ts'
import { runToEnd } from '../test/support/run.ts'
import { cartsToWarehouse } from './pipelines.ts'

/**
 * Runs the bench's pipeline on events that arrive at a rate, for so many seconds: latency is from a record's arrival to its
 * sink's answer. Prints one line of JSON; milliseconds.
 */
const [rate = 0, seconds = 0] = process.argv.slice(2).map(Number)
const dataDir = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
try {
  const inputs = {
    'shop.events': shopSource({ seed: 7, events: rate * seconds, rate, perDay: 2_000_000, visitors: 500_000 }),
  }
  const { read, latency, epochs, seconds: lasted } = await runToEnd(cartsToWarehouse('unused'), dataDir, inputs)
  console.log(JSON.stringify({ rate, read, seconds: lasted, epochs, latency }))
} finally {
  rmSync(dataDir, { recursive: true, force: true })
}
