import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { openWarehouse } from '../../embedded/warehouse.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'

/** What the embedded warehouse of a data directory answers, an object a row. */
export async function asked(dataDir: string, query: string): Promise<any[]> {
  const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const client = connectClickHouse({ url: warehouse.url, socketPath: warehouse.socketPath, database: 'default' })
  try {
    return await (await client.query({ query, format: 'JSONEachRow' })).json()
  } finally {
    await client.close()
    await warehouse.close()
  }
}
