import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { ChdbQueryStream, Session } from 'chdb'

/** A statement as it came over HTTP. */
export interface Statement {
  readonly sql: string
  /** What follows the statement of an INSERT. */
  readonly data?: Buffer
  readonly database: string
  readonly settings: Readonly<Record<string, string>>
  /** Values of `{name:Type}` in the statement. */
  readonly params: Readonly<Record<string, string>>
  /** The format of the answer where the statement names none. */
  readonly format: string
}

export interface Summary {
  readonly readRows: number
  readonly readBytes: number
  readonly writtenRows: number
  readonly writtenBytes: number
  readonly seconds: number
}

export interface Answer {
  readonly summary: Summary
  readonly format: string
  /** The whole of it, or its parts as they are made: then it must be read to its end, or returned. */
  readonly body: Uint8Array | AsyncIterable<Uint8Array>
}

/** The warehouse's engine: ClickHouse in this process, over one folder. */
export interface Engine {
  readonly version: string
  run(statement: Statement): Promise<Answer>
  /** Waits for what is under way, and frees the folder. */
  close(): Promise<void>
}

/** The exit code of a warehouse process that finds the folder held by another. */
export const EXIT_HELD = 75

/** A query holds a thread of the engine until its end; inserts have threads of their own, so that none waits for it. */
const QUERIES_AT_ONCE = 6
const INSERTS_AT_ONCE = 4

/** Data of more bytes come to the engine in a file. */
const INLINE = 32_768
/** From a file, columns that are computed cannot be given, whatever this setting says. */
const MATERIALIZED = 'insert_allow_materialized_columns'

const IDENTIFIER = '(?:`[A-Za-z_]\\w*`|[A-Za-z_]\\w*)'
const INSERT = new RegExp(
  `^\\s*INSERT\\s+INTO\\s+(?:TABLE\\s+)?(${IDENTIFIER}(?:\\.${IDENTIFIER})?)\\s*(?:\\((${IDENTIFIER}(?:\\s*,\\s*${IDENTIFIER})*)\\))?\\s*FORMAT\\s+(\\w+)\\s*$`,
  'i',
)
const RAW = [
  'JSONEachRow',
  'JSONCompactEachRow',
  'CSV',
  'CSVWithNames',
  'TabSeparated',
  'TabSeparatedWithNames',
] as const
const STREAMED = new Set(['JSONEachRow', 'JSONCompactEachRow', 'JSONStringsEachRow', 'TabSeparated', 'TSV', 'CSV'])
/** What such a statement changes outlives it, so that its session is not used again. */
const STICKS = /\b(SET|USE|TEMPORARY)\b/i

/**
 * @param config a configuration file of ClickHouse: macros, clusters, what keeps replicas in step
 * @throws when chdb is not installed, or the folder is damaged or held by another process
 */
export async function openEngine(folder: string, config?: string): Promise<Engine> {
  const { Session, drainPending } = await import('chdb')
  const open = () =>
    new Session(folder, config === undefined ? undefined : { connectionArgs: [`--config-file=${config}`] })
  const incoming = join(folder, 'incoming')
  rmSync(incoming, { recursive: true, force: true })
  const keeper = open()
  mkdirSync(incoming)
  let files = 0
  const version = keeper.query('SELECT version()', 'TabSeparated').trim()
  const inserts = pool(open, INSERTS_AT_ONCE)
  const queries = pool(open, QUERIES_AT_ONCE)

  async function insert(raw: RawInsert, { data, database, settings }: Statement): Promise<Answer> {
    if (!data?.length) return { summary: NOTHING, format: raw.format, body: new Uint8Array() }
    const session = await inserts.take()
    try {
      const table = raw.table.includes('.') ? raw.table : `${database}.${raw.table}`
      if (data.length > INLINE && !(MATERIALIZED in settings))
        return await insertFile(session, { ...raw, table }, data, settings)
      const done = await session.insert({ ...raw, table, values: data, settings })
      return {
        summary: summary(0, 0, done.rowsWritten, done.bytesWritten, done.elapsed),
        format: raw.format,
        body: new Uint8Array(),
      }
    } finally {
      inserts.give(session)
    }
  }

  /** The engine takes as long to find the end of a statement that holds its data as it takes to read them. */
  async function insertFile(
    session: Session,
    { table, columns, format }: RawInsert,
    data: Buffer,
    settings: Statement['settings'],
  ): Promise<Answer> {
    const path = join(incoming, String(files++))
    writeFileSync(path, data)
    try {
      const quoted = (name: string) => `\`${name}\``
      const names = columns ? ` (${columns.map(quoted).join(', ')})` : ''
      const set = Object.entries(settings).map(([name, value]) => `${name} = ${literal(value)}`)
      const given = set.length > 0 ? ` SETTINGS ${set.join(', ')}` : ''
      const into = `INSERT INTO ${table.split('.').map(quoted).join('.')}${names} FROM INFILE ${literal(path)}${given} FORMAT ${format}`
      const done = await session.queryAsync(into, { format: 'Null' })
      return { summary: summary(0, 0, 0, data.length, done.elapsed), format, body: new Uint8Array() }
    } finally {
      await unlink(path)
    }
  }

  async function query(statement: Statement): Promise<Answer> {
    const session = await queries.take()
    let lent = false
    const back = await prepare(session, statement).catch((error: unknown) => {
      queries.discard(session)
      throw error
    })
    const give = async () => {
      if (await back()) queries.give(session)
      else queries.discard(session)
    }
    try {
      const format = /\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^;]*)?;?\s*$/i.exec(statement.sql)?.[1] ?? statement.format
      if (STREAMED.has(format) && /^\s*(SELECT|WITH)\b/i.test(statement.sql)) {
        const body = await begin(session.queryStream(statement.sql, { format }), give)
        lent = true
        return { summary: NOTHING, format, body }
      }
      const sql = statement.data?.length ? `${statement.sql}\n${statement.data.toString()}` : statement.sql
      const result = await session.queryAsync(sql, { format })
      return { summary: summary(result.rowsRead, result.bytesRead, 0, 0, result.elapsed), format, body: result.bytes() }
    } finally {
      if (!lent) await give()
    }
  }

  return {
    version,
    run(statement) {
      const raw = Object.keys(statement.params).length === 0 ? rawInsert(statement) : undefined
      return raw ? insert(raw, statement) : query(statement)
    },
    async close() {
      await drainPending()
      inserts.close()
      queries.close()
      keeper.close()
      await drainPending()
    },
  }
}

interface RawInsert {
  readonly table: string
  readonly columns?: string[]
  readonly format: (typeof RAW)[number]
}

/** An insert whose data the engine can take as they are, without a copy into the statement. */
function rawInsert({ sql, database }: Statement): RawInsert | undefined {
  const match = INSERT.exec(sql)
  const format = RAW.find((each) => each === match?.[3])
  if (!match || !format || !/^\w+$/.test(database)) return undefined
  const plain = (name: string) => name.replaceAll('`', '').trim()
  const columns = match[2]?.split(',').map(plain)
  return { table: plain(match[1]!), format, ...(columns ? { columns } : {}) }
}

/** Brings a session into the statement's settings; what it gives brings it back, and says if it can be used again. */
async function prepare(
  session: Session,
  { sql, database, settings, params }: Statement,
): Promise<() => Promise<boolean>> {
  const names = Object.keys(settings)
  const values = [
    ...names.map((name) => `${name} = ${literal(settings[name]!)}`),
    ...Object.entries(params).map(([name, value]) => `param_${name} = ${literal(value)}`),
  ]
  if (database !== 'default') await session.queryAsync(`USE \`${database.replaceAll('`', '\\`')}\``)
  if (values.length > 0) await session.queryAsync(`SET ${values.join(', ')}`)
  return async () => {
    if (STICKS.test(sql) || Object.keys(params).length > 0 || 'readonly' in settings) return false
    try {
      if (names.length > 0) await session.queryAsync(`SET ${names.map((name) => `${name} = DEFAULT`).join(', ')}`)
      if (database !== 'default') await session.queryAsync('USE default')
      return true
    } catch {
      return false
    }
  }
}

/** Waits for the first part of a stream, so that an error that comes before it is an answer of its own. */
async function begin(stream: ChdbQueryStream, done: () => Promise<void>): Promise<AsyncIterable<Uint8Array>> {
  const parts = stream[Symbol.asyncIterator]()
  const first = await parts.next()
  return (async function* () {
    try {
      for (let part = first; !part.done; part = await parts.next()) yield part.value.raw()
    } finally {
      await parts.return?.(undefined)
      await done()
    }
  })()
}

/** Sessions that are lent one at a time, at most so many at once. */
function pool(open: () => Session, size: number) {
  const idle: Session[] = []
  const waiting: (() => void)[] = []
  let lent = 0
  const next = () => {
    lent -= 1
    waiting.shift()?.()
  }
  return {
    async take(): Promise<Session> {
      while (lent >= size) await new Promise<void>((resolve) => waiting.push(resolve))
      lent += 1
      return idle.pop() ?? open()
    },
    give(session: Session) {
      idle.push(session)
      next()
    },
    discard(session: Session) {
      session.close()
      next()
    },
    close() {
      for (const session of idle.splice(0)) session.close()
    },
  }
}

const NOTHING: Summary = summary(0, 0, 0, 0, 0)

function summary(
  readRows: number,
  readBytes: number,
  writtenRows: number,
  writtenBytes: number,
  seconds: number,
): Summary {
  return { readRows, readBytes, writtenRows, writtenBytes, seconds }
}

function literal(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
