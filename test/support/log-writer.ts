import { systemRuntime } from '../../core/runtime.ts'
import { openLog } from '../../embedded/log.ts'

/*
 * A process that appends named batches of three records to a log until it is killed, beginning with a given batch, and
 * prints the number of each that was answered for.
 */
const [dataDir, producer, first, delay] = process.argv.slice(2) as [string, string, string, string]
const log = await openLog({ dataDir, log: 'events', partitions: 2, segment: '4KB', runtime: systemRuntime })
for (let batch = Number(first); ; batch++) {
  const entries = [0, 1, 2].map((i) => ({
    key: `key-${i}`,
    value: `${producer}:${batch}:${i}:${'x'.repeat(batch % 90)}`,
  }))
  await log.produce(entries, { producer, batch: `batch-${batch}` })
  process.stdout.write(`${batch}\n`)
  if (delay !== '0') await systemRuntime.sleep(Number(delay))
}
