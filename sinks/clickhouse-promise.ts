import type { ClickHouseClient } from '@clickhouse/client'
import { MillraceError } from '../core/errors.ts'
import type { Guarantee } from '../core/sink.ts'
import { literal, quoted, rowsOf } from './clickhouse-client.ts'
import { WINDOW } from './clickhouse-create.ts'
import type { ColumnRow, TableRow, WantedTable } from './clickhouse-table.ts'

/** What may be expected of a table when a batch comes again. */
export interface TablePromise {
  readonly guarantee: Guarantee
  /** Rows carry `_batch` and `_seq`, and stay as they are: what of a batch is there can be counted. */
  readonly counted: boolean
  /** The mark that a batch was seen and its rows come to be in one step, so that one is never there without the other. */
  readonly atomic: boolean
  /** Materialized views read what is inserted, and may fail when it is there already. */
  readonly views: boolean
  /** Rows go to several servers, each of which takes or refuses its own. */
  readonly scattered: boolean
  /** Equal rows become one, so that a batch may be applied twice. */
  readonly replaces: boolean
  /** How long after it was staged the table recognizes a batch, milliseconds. Half of it is relied on. */
  readonly window: number
  /** Why the guarantee is less than it could be, and what to change. */
  readonly remarks: readonly string[]
  /** What would be better, where the guarantee holds nevertheless. */
  readonly advice: readonly string[]
}

/** So many inserts a second are assumed where a window counts them: what one worker's pace allows. */
const INSERTS_A_SECOND = 50
const DAY = 86_400
const FEW = 10_000
/** What a server takes for `replicated_deduplication_window_seconds` where nothing says it; a week in old versions. */
const HOUR = 3_600
/** Functions whose value is another one when a batch is sent again. */
const FICKLE = /\b(rand\w*|now\w*|generate\w+|rowNumber\w*|hostName|getMacro|serverUUID)\s*\(/i

/**
 * What the table does with a batch that comes again (engine rules 20 to 23).
 *
 * @throws MillraceError SINK_FAILED when it would take one twice; the message says what to change
 */
export async function promiseOf(
  client: ClickHouseClient,
  { row, columns }: { readonly row: TableRow; readonly columns: readonly ColumnRow[] },
  wanted: WantedTable,
  where: string,
): Promise<TablePromise> {
  const { database, table, replace, asyncInsert } = wanted
  const remarks: string[] = []
  const name = `${quoted(database)}.${quoted(table)}`
  const atomic = isReplicated(row.engine)
  const family = row.engine.replace(/^(Replicated|Shared)/, '')
  const replacing = family === 'ReplacingMergeTree'
  const distributed = row.engine === 'Distributed'
  const elsewhere = distributed || row.engine === 'Null'
  if (replace && !replacing)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: replace needs a ReplacingMergeTree, and the table is a ${row.engine}`,
    )
  if (wanted.replicated && !atomic && !distributed)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: replicated is asked for, and the table is a ${row.engine}: leave the option out, or make the table anew`,
    )
  if (!family.endsWith('MergeTree') && !elsewhere)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: a table of engine ${row.engine} takes a repeated batch twice; use a MergeTree`,
    )

  let window: Window = { blocks: WINDOW.blocks, seconds: WINDOW.blocks / INSERTS_A_SECOND }
  if (distributed) window = await shardsOf(client, row, where, remarks)
  else if (!elsewhere) window = await windowOf(client, row)
  if (window.blocks === 0)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the table recognizes no repeated batch: ${widen(name, row.engine)}`,
    )

  const marked = /log_comment/.test(columns.find((column) => column.name === '_batch')?.default_expression ?? '')
  const numbered = /rowNumberInBlock/.test(columns.find((column) => column.name === '_seq')?.default_expression ?? '')
  if ((!marked || !numbered) && !distributed)
    remarks.push(
      `rows do not say which batch they are of: ALTER TABLE ${name} ADD COLUMN _batch LowCardinality(String) MATERIALIZED getSetting('log_comment'), ADD COLUMN _seq UInt32 MATERIALIZED rowNumberInBlock()`,
    )
  if (elsewhere) remarks.push(`what engine ${row.engine} has taken cannot be counted`)
  if (/\bTTL\b/.test(row.create_table_query))
    remarks.push('the table has a TTL, so that rows which are gone cannot be told from rows that never came')
  if (!elsewhere && !replace && family !== 'MergeTree')
    remarks.push(`a ${row.engine} changes rows as it merges, so that they cannot be counted`)
  if (asyncInsert) remarks.push('asyncInsert lets the server gather batches, whose rows cannot be told apart then')
  for (const { view, target } of await unprotected(client, row))
    remarks.push(
      `the materialized view ${view} writes to a table that recognizes no repeated batch, which it takes twice: ${target}`,
    )

  const counted = remarks.length === 0 && !replacing
  const replaces = replace !== undefined && row.dependencies_table.length === 0
  const advice = window.short
    ? [
        `the table recognizes a repeated batch for ${window.seconds} s, and an outage may last longer: ALTER TABLE ${name} MODIFY SETTING replicated_deduplication_window = ${WINDOW.blocks}, replicated_deduplication_window_seconds = ${WINDOW.seconds}`,
      ]
    : []
  return {
    guarantee: counted || replaces ? 'idempotent' : 'windowed',
    counted,
    atomic,
    views: row.dependencies_table.length > 0,
    scattered: distributed,
    replaces,
    window: window.seconds * 1_000,
    remarks: replaces ? [] : remarks,
    advice,
  }
}

interface Window {
  readonly blocks: number
  readonly seconds: number
  /** It could be longer at little cost. */
  readonly short?: boolean
}

type Engine = Pick<TableRow, 'engine' | 'engine_full'>

function isReplicated(engine: string): boolean {
  return /^(Replicated|Shared)/.test(engine)
}

/** How many inserts the table recognizes, and for how long: both bound it where it is replicated. */
async function windowOf(client: ClickHouseClient, table: Engine): Promise<Window> {
  if (!isReplicated(table.engine)) {
    const blocks = await settingOf(client, table, 'non_replicated_deduplication_window', 0)
    return { blocks, seconds: blocks / INSERTS_A_SECOND }
  }
  const blocks = await settingOf(client, table, 'replicated_deduplication_window', 0)
  const seconds = await settingOf(client, table, 'replicated_deduplication_window_seconds', HOUR)
  return {
    blocks: Math.min(blocks, seconds),
    seconds: Math.min(seconds, blocks / INSERTS_A_SECOND),
    short: blocks < FEW || seconds < DAY,
  }
}

/** A setting of the table: its own, else the server's for tables of the kind. */
async function settingOf(
  client: ClickHouseClient,
  { engine, engine_full }: Engine,
  name: string,
  otherwise: number,
): Promise<number> {
  const own = new RegExp(`(?:^|[\\s,])${name} = (\\d+)`).exec(engine_full)?.[1]
  if (own !== undefined) return Number(own)
  const tables = engine.startsWith('Replicated')
    ? ['replicated_merge_tree_settings', 'merge_tree_settings']
    : ['merge_tree_settings']
  for (const from of tables) {
    const query = `SELECT value FROM system.${from} WHERE name = ${literal(name)}`
    const [found] = await rowsOf<{ value: string }>(client, query).catch(() => [])
    if (found) return Number(found.value)
  }
  return otherwise
}

/** What to say to a table so that it recognizes repeated batches. */
function widen(name: string, engine: string): string {
  const setting = `${isReplicated(engine) ? '' : 'non_'}replicated_deduplication_window`
  return `ALTER TABLE ${name} MODIFY SETTING ${setting} = ${WINDOW.blocks}`
}

/**
 * The window of the tables that a Distributed one writes to. They must share out a repeated batch as they did at first,
 * so that each shard sees the same rows under the same name.
 */
async function shardsOf(client: ClickHouseClient, row: TableRow, where: string, remarks: string[]): Promise<Window> {
  const [cluster = '', database = '', table = '', key = ''] = argumentsOf(row.engine_full)
  const fickle = FICKLE.exec(key)?.[1]
  if (fickle !== undefined)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the Distributed table shards by ${fickle}(), which shares out a repeated batch otherwise, so that rows are taken twice: shard by a column, such as cityHash64(id)`,
    )
  const [local] = await rowsOf<Engine & { called: string }>(
    client,
    `SELECT engine, engine_full, concat(database, '.', name) AS called FROM system.tables WHERE name = ${literal(table)}
AND database = ${database === '' || database === 'currentDatabase()' ? 'currentDatabase()' : literal(database)}`,
  )
  if (!local) {
    remarks.push(
      `the table ${database}.${table} of cluster ${cluster} cannot be seen from here: on each shard it needs non_replicated_deduplication_window, or replicated_deduplication_window and …_seconds`,
    )
    return { blocks: WINDOW.blocks, seconds: HOUR }
  }
  const window = await windowOf(client, local)
  if (window.blocks === 0)
    throw new MillraceError(
      'SINK_FAILED',
      `${where}: the tables that it shards to recognize no repeated batch: ${widen(local.called, local.engine)}, on each shard`,
    )
  return window
}

/** The arguments of an engine as they stand, without their quotes. */
function argumentsOf(engine: string): string[] {
  const inner = /^\w+\((.*?)\)(?:\s+(?:SETTINGS|COMMENT)\b.*)?$/s.exec(engine)?.[1] ?? ''
  const parts = inner.matchAll(/'((?:[^'\\]|\\.)*)'|((?:[^,'()]|\((?:[^()]|\([^()]*\))*\))+)/g)
  return Array.from(parts, ([, text, other]) => text ?? (other!.trim() || undefined)).filter(
    (each) => each !== undefined,
  )
}

/** The materialized views on the table whose targets would take a repeated batch twice, and what to say to those. */
async function unprotected(
  client: ClickHouseClient,
  row: TableRow,
): Promise<readonly { readonly view: string; readonly target: string }[]> {
  const views: { view: string; target: string }[] = []
  for (const [n, view] of row.dependencies_table.entries()) {
    const database = row.dependencies_database[n] ?? 'default'
    const [target] = await rowsOf<Engine & { called: string }>(
      client,
      `WITH (SELECT (extract(create_table_query, ' TO ([^ (]+)'), toString(uuid)) FROM system.tables WHERE database = ${literal(database)} AND name = ${literal(view)}) AS made
SELECT engine, engine_full, concat(database, '.\`', name, '\`') AS called FROM system.tables
WHERE if(made.1 = '', name IN (concat('.inner_id.', made.2), ${literal(`.inner.${view}`)}), concat(database, '.', name) = replaceAll(made.1, '\`', ''))`,
    )
    if (!target || (await windowOf(client, target)).blocks === 0)
      views.push({ view: `${database}.${view}`, target: widen(target?.called ?? '<its target>', target?.engine ?? '') })
  }
  return views
}
