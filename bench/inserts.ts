import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { silentLogger } from '../core/logger.ts'
import { systemRuntime } from '../core/runtime.ts'
import { openWarehouse } from '../embedded/warehouse.ts'
import { connectClickHouse } from '../sinks/clickhouse-client.ts'
import { inserter } from '../sinks/clickhouse-insert.ts'

/**
 * What one insert into the embedded warehouse takes, by the ordinary client and by the sink's own requests, by turns in one
 * run: while this process has nothing else to do, and while epochs of 10 ms take its thread one after the other, as under
 * load. Prints the median and the smallest of so many, milliseconds, and the processor time of this process.
 */
const ROUNDS = 60
const EPOCH = 10

const dataDir = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
const address = { url: warehouse.url, socketPath: warehouse.socketPath, database: 'default' }
const client = connectClickHouse(address)
const own = inserter(address)
const query = 'INSERT INTO rows (id, name, n) FORMAT JSONCompactEachRow'
const { signal } = new AbortController()
let token = 0
const settings = () => ({
  insert_deduplication_token: `${token++}`,
  async_insert: 0 as const,
  wait_end_of_query: 1 as const,
})

const ways = {
  async client(body: Uint8Array) {
    const values = Readable.from([body], { objectMode: false })
    const { stream } = await client.exec({ query, values, clickhouse_settings: settings() })
    for await (const _ of stream);
  },
  own: (body: Uint8Array) => own.insert({ query, settings: settings(), body, signal }),
}

let busy = false
function epoch(): void {
  const end = performance.now() + EPOCH
  while (busy && performance.now() < end);
  if (busy) setImmediate(epoch)
}

await client.command({
  query: `CREATE TABLE rows (id String, name String, n Int64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100000`,
})
const figures: Record<string, Record<string, number>> = {}
for (const loaded of [false, true]) {
  for (const size of [60, 5_000]) {
    const lines = Array.from({ length: size }, (_, n) => `["event-${n}","a name of some length ${n % 97}",${n}]\n`)
    const body = Buffer.from(lines.join(''))
    const taken: Record<string, { ms: number; cpu: number }[]> = { client: [], own: [] }
    busy = loaded
    if (busy) setImmediate(epoch)
    for (let round = -5; round < ROUNDS; round++) {
      for (const [way, work] of Object.entries(ways)) {
        const [started, cpu] = [performance.now(), process.cpuUsage()]
        await work(body)
        const { user, system } = process.cpuUsage(cpu)
        if (round >= 0) taken[way]!.push({ ms: performance.now() - started, cpu: (user + system) / 1_000 })
      }
    }
    busy = false
    const sorted = (way: string, of: 'ms' | 'cpu') => taken[way]!.map((each) => each[of]).sort((a, b) => a - b)
    const rounded = (value: number) => Number(value.toFixed(1))
    for (const way of Object.keys(ways)) {
      figures[`${size} rows, ${loaded ? 'epochs beside' : 'idle'}, ${way}`] = {
        median: rounded(sorted(way, 'ms')[ROUNDS >> 1]!),
        least: rounded(sorted(way, 'ms')[0]!),
        ...(loaded ? {} : { cpu: rounded(sorted(way, 'cpu')[ROUNDS >> 1]!) }),
      }
    }
  }
}
console.log(JSON.stringify(figures, undefined, 2))
own.close()
await client.close()
await warehouse.close()
rmSync(dataDir, { recursive: true, force: true })
