import type { ClickHouseClient } from '@clickhouse/client'
import { MillraceError } from '../core/errors.ts'
import type { Guarantee } from '../core/sink.ts'
import { literal, quoted } from './clickhouse-client.ts'
import { columnsOf } from './clickhouse-schema.ts'

/** A column that rows are written to. */
export interface TableColumn {
  readonly name: string
  readonly type: string
  /** The table has a default for it: a field that is null or absent gets that. */
  readonly defaults: boolean
}

/** What the sink's author says of the table. */
export interface WantedTable {
  readonly database: string
  readonly table: string
  readonly columns?: Readonly<Record<string, string>> | undefined
  readonly orderBy?: readonly string[] | undefined
  readonly replace?: { readonly version: string; readonly deleted?: string } | undefined
  /** A Standard Schema of the rows, where it is known. */
  readonly rowSchema?: unknown
}

/** A table as it was found or made, and what may be expected of it. */
export interface Table {
  readonly columns: readonly TableColumn[]
  readonly guarantee: Guarantee
  /** Rows carry `_batch` and `_seq`, and stay as they are: what of a batch is there can be counted. */
  readonly counted: boolean
  /** The mark that a batch was seen and its rows come to be in one step, so that one is never there without the other. */
  readonly atomic: boolean
  /** Materialized views read what is inserted, and may fail when it is there already. */
  readonly views: boolean
  /** Equal rows become one, so that a batch may be applied twice. */
  readonly replaces: boolean
  /** How long after it was staged a batch may be sent again where it cannot be counted, milliseconds. */
  readonly window: number
  /** Of the settings that an insert needs, those that this server knows. */
  readonly settings: Readonly<Record<string, string | number>>
  /** Why the guarantee is less than it could be, and what to change. */
  readonly remarks: readonly string[]
}

/** At most so many rows and bytes an insert, so that it is one block (engine rule 21). */
export const LARGEST_INSERT = { rows: 500_000, bytes: 64 * 1_048_576 } as const

const WINDOW = 100_000
const WINDOW_SECONDS = 604_800
const BLOCK_ROWS = 2 * LARGEST_INSERT.rows
const BLOCK_BYTES = 4 * 1_073_741_824

/** One insert, one block, parsed in order, written before it is answered, known again by its token. */
const SETTINGS: Readonly<Record<string, string | number>> = {
  async_insert: 0,
  insert_deduplicate: 1,
  deduplicate_insert: 'enable',
  deduplicate_blocks_in_dependent_materialized_views: 1,
  max_insert_block_size: BLOCK_ROWS,
  max_insert_block_size_bytes: 0,
  min_insert_block_size_rows: BLOCK_ROWS,
  min_insert_block_size_bytes: BLOCK_BYTES,
  max_insert_threads: 1,
  input_format_max_block_size_bytes: 0,
  input_format_parallel_parsing: 0,
  input_format_allow_errors_num: 0,
  input_format_allow_errors_ratio: 0,
  date_time_input_format: 'best_effort',
  distributed_foreground_insert: 1,
}
/** What a repair needs beside them. */
export const EXPLICIT = 'insert_allow_materialized_columns'

interface TableRow {
  readonly engine: string
  readonly engine_full: string
  readonly create_table_query: string
  readonly dependencies_database: readonly string[]
  readonly dependencies_table: readonly string[]
}

interface ColumnRow {
  readonly name: string
  readonly type: string
  readonly default_kind: string
  readonly default_expression: string
}

/**
 * Makes the table where there is none, and otherwise checks that rows fit and that a batch which is sent again would be
 * recognized.
 *
 * @throws MillraceError SINK_FAILED when it cannot be made, does not fit, or would take repeated batches twice; the
 * message says what to change
 */
export async function openTable(client: ClickHouseClient, wanted: WantedTable): Promise<Table> {
  const where = `clickhouse "${wanted.table}"`
  let found = await describe(client, wanted)
  if (!found) {
    await client.command({ query: createStatement(wanted, where) })
    found = await describe(client, wanted)
  }
  if (!found)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the table was made and is not there: the user needs SELECT on system.tables`,
    )
  const known = await rowsOf<{ name: string }>(
    client,
    `SELECT name FROM system.settings WHERE name IN (${[...Object.keys(SETTINGS), EXPLICIT].map(literal).join(', ')})`,
  )
  const names = new Set(known.map((row) => row.name))
  const columns = fitting(found.columns, wanted, where)
  const settings: Record<string, string | number> = Object.fromEntries(
    Object.entries(SETTINGS).filter(([name]) => names.has(name)),
  )
  settings.input_format_null_as_default = columns.some((column) => column.defaults) ? 1 : 0
  const promise = await promised(client, found, wanted, where)
  return { columns, settings, ...promise, counted: promise.counted && names.has(EXPLICIT) }
}

/** The statement that makes the table: `_batch` and `_seq` are hidden from `SELECT *` (engine rule 20). */
function createStatement(wanted: WantedTable, where: string): string {
  const columns = wanted.columns ?? derived(wanted.rowSchema, where)
  const { orderBy = [], replace } = wanted
  for (const name of [...orderBy, ...(replace ? [replace.version, ...(replace.deleted ? [replace.deleted] : [])] : [])])
    if (!(name in columns))
      throw new MillraceError('BAD_OPTION', `${where}: there is no column ${name} to order or replace by`)
  const types = { ...columns }
  if (replace?.deleted) types[replace.deleted] = 'UInt8'
  const engine = replace
    ? `ReplacingMergeTree(${[replace.version, ...(replace.deleted ? [replace.deleted] : [])].map(quoted).join(', ')})`
    : 'MergeTree'
  return `CREATE TABLE IF NOT EXISTS ${quoted(wanted.database)}.${quoted(wanted.table)} (
  ${[
    ...Object.entries(types).map(([name, type]) => `${quoted(name)} ${type}`),
    `_batch LowCardinality(String) MATERIALIZED getSetting('log_comment')`,
    '_seq UInt32 MATERIALIZED rowNumberInBlock()',
  ].join(',\n  ')}
) ENGINE = ${engine}
ORDER BY ${orderBy.length === 0 ? 'tuple()' : `(${orderBy.map(quoted).join(', ')})`}
SETTINGS non_replicated_deduplication_window = ${WINDOW}, replicated_deduplication_window = ${WINDOW}, replicated_deduplication_window_seconds = ${WINDOW_SECONDS}`
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

async function describe(client: ClickHouseClient, { database, table }: WantedTable) {
  const at = (column: string) => `database = ${literal(database)} AND ${column} = ${literal(table)}`
  const [row] = await rowsOf<TableRow>(
    client,
    `SELECT engine, engine_full, create_table_query, dependencies_database, dependencies_table FROM system.tables WHERE ${at('name')}`,
  )
  if (!row) return undefined
  const columns = await rowsOf<ColumnRow>(
    client,
    `SELECT name, type, default_kind, default_expression FROM system.columns WHERE ${at('table')} ORDER BY position`,
  )
  return { row, columns }
}

/** The columns that rows go to, in the order of the table's. */
function fitting(
  found: readonly ColumnRow[],
  { columns, rowSchema }: WantedTable,
  where: string,
): readonly TableColumn[] {
  const writable = found.filter((column) => column.default_kind === '' || column.default_kind === 'DEFAULT')
  const known = columns ? undefined : columnsOf(rowSchema)
  const names = columns ? Object.keys(columns) : [...Object.keys(known?.columns ?? {}), ...(known?.unclear ?? [])]
  for (const name of names) {
    const column = found.find((each) => each.name === name)
    const type = columns?.[name]
    const say = (problem: string) => new MillraceError('SINK_FAILED', `${where}: the table's column ${name} ${problem}`)
    if (!column)
      throw say(
        `is missing: ALTER TABLE … ADD COLUMN ${quoted(name)} ${type ?? '<its type>'}, or leave the field out with map`,
      )
    if (!writable.includes(column))
      throw say(`is ${column.default_kind} and cannot be written: leave the field out with map`)
    if (type !== undefined && !sameType(column.type, type))
      throw say(`is ${column.type}, and columns says ${type}: change one of them`)
  }
  const chosen = names.length > 0 ? writable.filter((column) => names.includes(column.name)) : writable
  return chosen.map(({ name, type, default_kind }) => ({ name, type, defaults: default_kind === 'DEFAULT' }))
}

/** The server writes out the numbers of an Enum, so that only its names are compared. */
function sameType(found: string, wanted: string): boolean {
  const plain = (type: string) =>
    type.replace(/\s+/g, '').replace(/(Enum\d*\([^)]*\))/g, (list) => list.replace(/=-?\d+/g, ''))
  return plain(found) === plain(wanted) || (plain(found) === 'UInt8' && plain(wanted) === 'Bool')
}

/** What the table does with a batch that comes again (engine rules 20 to 23). */
async function promised(
  client: ClickHouseClient,
  { row, columns }: { row: TableRow; columns: readonly ColumnRow[] },
  { database, table, replace }: WantedTable,
  where: string,
): Promise<Pick<Table, 'guarantee' | 'counted' | 'atomic' | 'views' | 'replaces' | 'window' | 'remarks'>> {
  const remarks: string[] = []
  const name = `${quoted(database)}.${quoted(table)}`
  const atomic = /^(Replicated|Shared)/.test(row.engine)
  const family = row.engine.replace(/^(Replicated|Shared)/, '')
  const replacing = family === 'ReplacingMergeTree'
  const elsewhere = row.engine === 'Distributed' || row.engine === 'Null'
  if (replace && !replacing)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: replace needs a ReplacingMergeTree, and the table is a ${row.engine}`,
    )
  if (!family.endsWith('MergeTree') && !elsewhere)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: a table of engine ${row.engine} takes a repeated batch twice; use a MergeTree`,
    )

  const window = elsewhere ? WINDOW : await windowOf(client, row, atomic)
  if (window === 0)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the table recognizes no repeated batch: ALTER TABLE ${name} MODIFY SETTING ${atomic ? '' : 'non_'}replicated_deduplication_window = ${WINDOW}`,
    )

  const marked = /log_comment/.test(columns.find((column) => column.name === '_batch')?.default_expression ?? '')
  const numbered = /rowNumberInBlock/.test(columns.find((column) => column.name === '_seq')?.default_expression ?? '')
  if (!marked || !numbered)
    remarks.push(
      `rows do not say which batch they are of: ALTER TABLE ${name} ADD COLUMN _batch LowCardinality(String) MATERIALIZED getSetting('log_comment'), ADD COLUMN _seq UInt32 MATERIALIZED rowNumberInBlock()`,
    )
  if (elsewhere) remarks.push(`what engine ${row.engine} has taken cannot be counted`)
  if (/\bTTL\b/.test(row.create_table_query))
    remarks.push('the table has a TTL, so that rows which are gone cannot be told from rows that never came')
  if (!elsewhere && !replace && family !== 'MergeTree')
    remarks.push(`a ${row.engine} changes rows as it merges, so that they cannot be counted`)
  for (const view of await unprotected(client, row))
    remarks.push(
      `the materialized view ${view} writes to a table without non_replicated_deduplication_window, which takes a repeated batch twice`,
    )

  const counted = remarks.length === 0 && !replacing
  const replaces = replace !== undefined && row.dependencies_table.length === 0
  const seconds = atomic
    ? Number(/replicated_deduplication_window_seconds = (\d+)/.exec(row.engine_full)?.[1] ?? 3_600)
    : window / 10
  return {
    guarantee: counted || replaces ? 'idempotent' : 'windowed',
    counted,
    atomic,
    views: row.dependencies_table.length > 0,
    replaces,
    window: seconds * 1_000,
    remarks: replaces ? [] : remarks,
  }
}

/** How many inserts the table recognizes. */
async function windowOf(
  client: ClickHouseClient,
  { engine_full }: { engine_full: string },
  replicated: boolean,
): Promise<number> {
  const setting = replicated ? 'replicated_deduplication_window' : 'non_replicated_deduplication_window'
  const own = new RegExp(`(?:^|[\\s,])${setting} = (\\d+)`).exec(engine_full)?.[1]
  if (own !== undefined) return Number(own)
  const rows = await rowsOf<{ value: string }>(
    client,
    `SELECT value FROM system.merge_tree_settings WHERE name = ${literal(setting)}`,
  )
  return Number(rows[0]?.value ?? 0)
}

/** The materialized views on the table whose targets would take a repeated batch twice. */
async function unprotected(client: ClickHouseClient, row: TableRow): Promise<readonly string[]> {
  const views: string[] = []
  for (const [n, view] of row.dependencies_table.entries()) {
    const database = row.dependencies_database[n] ?? 'default'
    const [target] = await rowsOf<{ engine: string; engine_full: string }>(
      client,
      `WITH (SELECT (extract(create_table_query, ' TO ([^ (]+)'), toString(uuid)) FROM system.tables WHERE database = ${literal(database)} AND name = ${literal(view)}) AS made
SELECT engine, engine_full FROM system.tables
WHERE if(made.1 = '', name IN (concat('.inner_id.', made.2), ${literal(`.inner.${view}`)}), concat(database, '.', name) = replaceAll(made.1, '\`', ''))`,
    )
    if (!target || (await windowOf(client, target, /^(Replicated|Shared)/.test(target.engine))) === 0)
      views.push(`${database}.${view}`)
  }
  return views
}

async function rowsOf<R>(client: ClickHouseClient, query: string): Promise<readonly R[]> {
  const result = await client.query({ query, format: 'JSONEachRow' })
  return result.json<R>()
}
