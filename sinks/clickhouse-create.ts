import { MillraceError } from '../core/errors.ts'
import { literal, quoted } from './clickhouse-client.ts'
import { columnsOf } from './clickhouse-schema.ts'
import type { WantedTable } from './clickhouse-table.ts'

/** Blocks and seconds that a table which we make recognizes a repeated batch for (engine rule 23). */
export const WINDOW = { blocks: 100_000, seconds: 604_800 } as const

/** The statement that makes the table: `_batch` and `_seq` are hidden from `SELECT *` (engine rule 20). */
export function createStatement(wanted: WantedTable, where: string): string {
  const columns = wanted.columns ?? derived(wanted.rowSchema, where)
  const { orderBy = [], replace } = wanted
  for (const name of [...orderBy, ...(replace ? [replace.version, ...(replace.deleted ? [replace.deleted] : [])] : [])])
    if (!(name in columns))
      throw new MillraceError('BAD_OPTION', `${where}: there is no column ${name} to order or replace by`)
  const types = { ...columns }
  if (replace?.deleted) types[replace.deleted] = 'UInt8'
  return `CREATE TABLE IF NOT EXISTS ${quoted(wanted.database)}.${quoted(wanted.table)}${onCluster(wanted.cluster)} (
  ${[
    ...Object.entries(types).map(([name, type]) => `${quoted(name)} ${type}`),
    `_batch LowCardinality(String) MATERIALIZED getSetting('log_comment')`,
    '_seq UInt32 MATERIALIZED rowNumberInBlock()',
  ].join(',\n  ')}
) ENGINE = ${engineOf(wanted)}
ORDER BY ${orderBy.length === 0 ? 'tuple()' : `(${orderBy.map(quoted).join(', ')})`}
SETTINGS non_replicated_deduplication_window = ${WINDOW.blocks}, replicated_deduplication_window = ${WINDOW.blocks}, replicated_deduplication_window_seconds = ${WINDOW.seconds}`
}

function engineOf({ replace, replicated, cluster }: WantedTable): string {
  const args: string[] = []
  if (typeof replicated === 'object') args.push(literal(replicated.path), literal(replicated.replica ?? '{replica}'))
  if (replace) args.push(quoted(replace.version), ...(replace.deleted ? [quoted(replace.deleted)] : []))
  const own = (replicated ?? cluster !== undefined) ? 'Replicated' : ''
  return `${own}${replace ? 'Replacing' : ''}MergeTree${args.length > 0 ? `(${args.join(', ')})` : ''}`
}

/** The statement that gives a table new columns: rows of before have null there, so that they are Nullable. */
export function evolveStatement(
  { database, cluster }: Pick<WantedTable, 'database' | 'cluster'>,
  table: string,
  columns: readonly (readonly [string, string])[],
): string {
  const added = columns.map(([name, type]) => `ADD COLUMN IF NOT EXISTS ${quoted(name)} ${orNull(type)}`)
  return `ALTER TABLE ${quoted(database)}.${quoted(table)}${onCluster(cluster)} ${added.join(', ')}`
}

/** A type with null, where it can have one: of arrays, maps and objects it is the empty one. */
export function orNull(type: string): string {
  if (/^(Array|Map|Tuple|Nested|JSON|Dynamic|Variant|Nullable)\b|^LowCardinality\(Nullable/.test(type)) return type
  const inner = /^LowCardinality\((.*)\)$/.exec(type)?.[1]
  return inner === undefined ? `Nullable(${type})` : `LowCardinality(Nullable(${inner}))`
}

function onCluster(cluster: string | undefined): string {
  return cluster === undefined ? '' : ` ON CLUSTER ${quoted(cluster)}`
}

function derived(rowSchema: unknown, where: string): Readonly<Record<string, string>> {
  const known = columnsOf(rowSchema)
  const ask = `name the columns: clickhouse({ columns: { id: 'String', amount: 'Float64', … } })`
  if (!known)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: there is no such table, and what its rows are is not known, because they are not as the source's schema says, or that does not say itself as JSON Schema; make the table, or ${ask}`,
    )
  if (known.unclear.length > 0)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: there is no such table, and the schema does not say what column ${known.unclear.join(', ')} is; make the table, or ${ask}`,
    )
  return known.columns
}
