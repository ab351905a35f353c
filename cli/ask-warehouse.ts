import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { MillraceError, messageOf } from '../core/errors.ts'
import { silentLogger } from '../core/logger.ts'
import { systemRuntime } from '../core/runtime.ts'
import { openWarehouse } from '../embedded/warehouse.ts'
import { connectClickHouse } from '../sinks/clickhouse-client.ts'
import { existingDataDir } from './data-dir.ts'
import { counted } from './format.ts'
import { renderTable } from './table.ts'
import { out } from './terminal.ts'

/** An answer of the warehouse. */
export interface Answer {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly rows: readonly (readonly unknown[])[]
}

/** Most rows that are drawn as a table. */
const DRAWN = 1_000

/**
 * Prints the warehouse's answer, as a table or as lines of JSON, which are streamed.
 *
 * @throws MillraceError NOT_FOUND without a warehouse, BAD_OPTION with what ClickHouse says of the query
 */
export async function printAnswer(query: string, { data, json }: { data: string; json?: true }): Promise<void> {
  if (json)
    return withWarehouse(data, query, 'JSONEachRow', (stream) => pipeline(stream, process.stdout, { end: false }))
  const { columns, rows } = await ask(query, data)
  if (columns.length === 0) return out.write('done\n')
  const numeric = ({ type }: { type: string }) => /^(Nullable\()?(U?Int|Float|Decimal)/.test(type)
  out.write(
    renderTable({
      columns: columns.map((column) => ({ title: column.name, align: numeric(column) ? 'right' : 'left' })),
      rows: rows.slice(0, DRAWN).map((row) => row.map(textOf)),
      on: out,
    }),
  )
  out.write(
    `${counted(rows.length, 'row')}${rows.length > DRAWN ? `, ${DRAWN} of them shown; --json gives all` : ''}\n`,
  )
}

/** @throws MillraceError NOT_FOUND, BAD_OPTION */
export async function ask(query: string, data: string): Promise<Answer> {
  return withWarehouse(data, query, 'JSONCompact', async (stream) => {
    const text = (await stream.toArray()).map(String).join('')
    if (text.trim() === '') return { columns: [], rows: [] }
    const { meta, data: rows } = JSON.parse(text) as { meta: Answer['columns']; data: Answer['rows'] }
    return { columns: meta, rows }
  })
}

async function withWarehouse<T>(
  data: string,
  query: string,
  format: string,
  take: (stream: import('node:stream').Readable) => Promise<T>,
): Promise<T> {
  const dataDir = existingDataDir(data)
  if (!existsSync(join(dataDir, 'warehouse'))) {
    throw new MillraceError(
      'NOT_FOUND',
      `${data} holds no warehouse: no pipeline with a clickhouse sink has run there; say with --data where one has`,
    )
  }
  const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const client = connectClickHouse({ url: warehouse.url, socketPath: warehouse.socketPath, database: 'default' })
  try {
    const answers = /^\s*(--[^\n]*\n\s*|\(\s*)*(select|with|show|describe|desc|explain|exists|values|from)\b/i.test(
      query,
    )
    const { stream } = await client.exec({
      query: `${query.replace(/[;\s]*$/, '')}${answers ? `\nFORMAT ${format}` : ''}`,
    })
    return await take(stream)
  } catch (cause) {
    if (cause instanceof MillraceError) throw cause
    throw new MillraceError('BAD_OPTION', `the warehouse does not take the query: ${messageOf(cause).split('\n')[0]}`, {
      cause,
    })
  } finally {
    await client.close()
    await warehouse.close()
  }
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return 'NULL'
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
