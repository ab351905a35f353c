import type { ClickHouseClient } from '@clickhouse/client'
import { MillraceError } from '../core/errors.ts'
import { literal, quoted, rowsOf } from './clickhouse-client.ts'
import { createStatement, evolveStatement, orNull } from './clickhouse-create.ts'
import { promiseOf, type TablePromise } from './clickhouse-promise.ts'
import { columnsOf } from './clickhouse-schema.ts'
import { shaper } from './clickhouse-types.ts'

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
  /** The cluster on all of whose servers the table is made and changed. */
  readonly cluster?: string | undefined
  /** The table is made as a replicated one: at that path, or at the server's `default_replica_path`. */
  readonly replicated?: boolean | { readonly path: string; readonly replica?: string } | undefined
  /** Columns that it lacks are added. */
  readonly evolve?: boolean | undefined
  /** The server gathers several inserts. */
  readonly asyncInsert?: boolean | undefined
}

/** A table as it was found or made, and what may be expected of it. */
export interface Table extends TablePromise {
  readonly columns: readonly TableColumn[]
  /** Of the settings that an insert needs, those that this server knows. */
  readonly settings: Readonly<Record<string, string | number>>
  /** The name that the settings of an insert give its rows may be asked for. */
  readonly named: boolean
}

/** At most so many rows and bytes an insert, so that it is one block (engine rule 21). */
export const LARGEST_INSERT = { rows: 500_000, bytes: 64 * 1_048_576 } as const

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
  insert_distributed_one_random_shard: 0,
}
/** The server gathers inserts, answers when it has written them, and knows each again by its token. */
const GATHERED: Readonly<Record<string, string | number>> = {
  async_insert: 1,
  wait_for_async_insert: 1,
  async_insert_deduplicate: 1,
}
/** What `distributed_foreground_insert` was called before 23.11. */
const FOREGROUND = 'insert_distributed_sync'
/** What a repair needs beside them. */
export const EXPLICIT = 'insert_allow_materialized_columns'

export interface TableRow {
  readonly engine: string
  readonly engine_full: string
  readonly create_table_query: string
  readonly dependencies_database: readonly string[]
  readonly dependencies_table: readonly string[]
}

export interface ColumnRow {
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
  } else if (wanted.evolve && (await evolve(client, found, wanted, where))) found = await describe(client, wanted)
  if (!found)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the table was made and is not there: the user needs SELECT on system.tables`,
    )
  const columns = fitting(found.columns, wanted, where)
  const promise = await promiseOf(client, found, wanted, where)
  const { settings, known } = await settingsOf(client, wanted, where)
  settings.input_format_null_as_default = columns.some((column) => column.defaults) ? 1 : 0
  return {
    columns,
    settings,
    ...promise,
    counted: promise.counted && known.has(EXPLICIT),
    named: !wanted.asyncInsert,
  }
}

/** The settings of an insert, as far as this server knows them. */
async function settingsOf(client: ClickHouseClient, { asyncInsert }: WantedTable, where: string) {
  const asked = { ...SETTINGS, ...(asyncInsert ? GATHERED : {}) }
  const rows = await rowsOf<{ name: string }>(
    client,
    `SELECT name FROM system.settings WHERE name IN (${[...Object.keys(asked), FOREGROUND, EXPLICIT].map(literal).join(', ')})`,
  )
  const known = new Set(rows.map((row) => row.name))
  if (asyncInsert && !known.has('async_insert_deduplicate') && !known.has('deduplicate_insert'))
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: this server gathers inserts without recognizing repeated ones: leave out asyncInsert, or use ClickHouse 23.7 or later`,
    )
  const settings: Record<string, string | number> = Object.fromEntries(
    Object.entries(asked).filter(([name]) => known.has(name)),
  )
  if (!known.has('distributed_foreground_insert') && known.has(FOREGROUND)) settings[FOREGROUND] = 1
  return { settings, known }
}

/** Adds the columns that the table lacks; to the tables that a Distributed one writes to, too. */
async function evolve(
  client: ClickHouseClient,
  { row, columns }: Found,
  wanted: WantedTable,
  where: string,
): Promise<boolean> {
  const asked = wanted.columns ?? columnsOf(wanted.rowSchema)?.columns ?? {}
  const there = new Set(columns.map((column) => column.name))
  const missing = Object.entries(asked).filter(([name]) => !there.has(name))
  if (missing.length === 0) return false
  if (row.engine === 'Distributed')
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the table is Distributed, and lacks the column ${missing.map(([name, type]) => `${name} ${orNull(type)}`).join(', ')}: add it to the table on each shard, and then to this one`,
    )
  await client.command({ query: evolveStatement(wanted, wanted.table, missing) })
  return true
}

interface Found {
  readonly row: TableRow
  readonly columns: readonly ColumnRow[]
}

async function describe(client: ClickHouseClient, { database, table }: WantedTable): Promise<Found | undefined> {
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
        `is missing: say evolve: true, or ALTER TABLE … ADD COLUMN ${quoted(name)} ${type ?? known?.columns[name] ?? '<its type>'}, or leave the field out with map`,
      )
    if (!writable.includes(column))
      throw say(`is ${column.default_kind} and cannot be written: leave the field out with map`)
    if (type !== undefined && !sameType(column.type, type))
      throw say(`is ${column.type}, and columns says ${type}: change one of them`)
    const schemas = known?.columns[name]
    if (schemas !== undefined && clashes(column.type, schemas))
      throw say(`is ${column.type}, which takes nothing of what the schema says (${schemas}): shape the field with map`)
  }
  const chosen = names.length > 0 ? writable.filter((column) => names.includes(column.name)) : writable
  return chosen.map(({ name, type, default_kind }) => ({ name, type, defaults: default_kind === 'DEFAULT' }))
}

/**
 * The server writes out the numbers of an Enum, so that only its names are compared. A column that takes null, too, takes
 * all that was wanted.
 */
function sameType(found: string, wanted: string): boolean {
  const plain = (type: string) =>
    type.replace(/\s+/g, '').replace(/(Enum\d*\([^)]*\))/g, (list) => list.replace(/=-?\d+/g, ''))
  const same = [wanted, orNull(wanted)].some((type) => plain(found) === plain(type))
  return same || (plain(found) === 'UInt8' && plain(wanted) === 'Bool')
}

/** Values as a schema's types have them: a column that takes none of them takes no row. */
const SAMPLES: readonly (readonly [RegExp, readonly unknown[]])[] = [
  [/String/, ['text', '1']],
  [/Int64|Float64/, [1]],
  [/Bool/, [true]],
  [/DateTime64/, [new Date(0)]],
  [/JSON/, [{}]],
]

/** Nothing that the schema's type holds can be written to the column. */
function clashes(found: string, derived: string): boolean {
  const samples = /^Array/.test(derived) ? [[]] : (SAMPLES.find(([type]) => type.test(derived))?.[1] ?? [])
  const shape = shaper(found)
  const taken = samples.filter((sample) => {
    try {
      shape(sample)
      return true
    } catch {
      return false
    }
  })
  return samples.length > 0 && taken.length === 0
}
