import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MillraceError, messageOf } from '../core/errors.ts'
import { silentLogger } from '../core/logger.ts'
import { systemRuntime } from '../core/runtime.ts'
import { openWarehouse } from '../embedded/warehouse.ts'
import { connectClickHouse } from '../sinks/clickhouse-client.ts'

/** Asks the embedded warehouse of a data directory; also while a pipeline runs. Gives the answer as text. */
export async function sql(query: string, { data, json = false }: { data: string; json?: boolean }): Promise<string> {
  const dataDir = resolve(data)
  if (!existsSync(join(dataDir, 'warehouse'))) throw new MillraceError('NOT_FOUND', `there is no warehouse in ${dataDir}: run a pipeline first, or name its folder with --data`)
  const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const client = connectClickHouse({ url: warehouse.url, socketPath: warehouse.socketPath, database: 'default' } as Parameters<typeof connectClickHouse>[0])
  try {
    const answer = await client.exec({ query: `${query.replace(/;\s*$/, '')} FORMAT ${json ? 'JSONEachRow' : 'PrettyCompactMonoBlock'}` })
    let text = ''
    for await (const chunk of answer.stream) text += String(chunk)
    return text
  } catch (error) {
    throw new MillraceError('BAD_OPTION', messageOf(error).split('\n')[0]!)
  } finally {
    await client.close()
    await warehouse.close()
  }
}
