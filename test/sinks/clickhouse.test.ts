import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ClickHouseClient } from '@clickhouse/client'
import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { openWarehouse } from '../../embedded/warehouse.ts'
import { clickhouse } from '../../sinks/clickhouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { connectorContext, sinkSuite } from '../support/sink-suite.ts'

interface Visit {
  id: string
  n: number
  at: number
}

const visits = (count: number): Visit[] =>
  Array.from({ length: count }, (_, n) => ({ id: `visit-${n}`, n, at: 1_700_000_000_000 + n }))
const columns = { id: 'String', n: 'Int64', at: 'DateTime64(3)' } as const

sinkSuite<Visit>('clickhouse, embedded', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'millrace-clickhouse-'))
  const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const client: ClickHouseClient = connectClickHouse({ ...warehouse, database: 'default' })
  const context = connectorContext(dataDir)
  return {
    context,
    sink: () => clickhouse<Visit>({ table: 'visits', columns }),
    rows: visits,
    unencodable: { id: 'x', n: 1.5, at: 0 },
    async read() {
      const result = await client.query({
        query: 'SELECT id, toInt32(n) AS n, toFloat64(toUnixTimestamp64Milli(at)) AS at FROM visits',
        format: 'JSONEachRow',
      })
      return result.json()
    },
    async close() {
      await client.close()
      await warehouse.close()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
})
