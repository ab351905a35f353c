import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { bytes, type Size, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'
import type { ConnectorContext, OpenSource, RawRecord, Reader, ReadFrom, Source } from '../core/source.ts'
import { type SourceOptions, type SourceStream, stream } from '../core/stream.ts'
import { type CsvRow, csvObject } from './file-csv.ts'
import { type ByteInput, FileInput, fileError, GunzipInput, isGzip, StreamInput } from './file-input.ts'
import { comeTo, FileReader } from './file-reader.ts'
import { Unreadable } from './file-record.ts'

export interface FileOptions {
  /** The file, `-` for standard input. A gzip archive is known by its first bytes. */
  path: string
  /** JSON, a line a record; or CSV with a header row, whose fields are all texts. @default 'csv' when the path ends in `.csv` or `.csv.gz`, else 'jsonl' */
  format?: 'jsonl' | 'csv'
  /** Read on as the file grows, instead of ending with it. @default false */
  follow?: boolean
  /** How the file's bytes are read as text. @default 'utf-8' */
  encoding?: 'utf-8' | 'windows-1252'
  /** What stands between the fields of CSV: one character. @default ',' */
  delimiter?: string
  /** A longer record is not taken into memory, and becomes a dead letter. @default '8MB' */
  maxRecord?: Size
  /** The stream's name. @default the file's, without its ending */
  name?: string
}

type Settings = Required<Omit<FileOptions, 'maxRecord'>> & { readonly maxRecord: number }

/**
 * Reads a file: JSON lines or CSV, plain or in a gzip archive; or standard input.
 *
 * Positions are byte offsets (in what is inside of an archive, which is unpacked anew up to there). At a restart the
 * record before the position is compared with what was read: a file that was cut, written anew or changed there is
 * refused. A followed file must only grow; its last line is taken when its line end has come. Blank lines are passed over.
 *
 * Standard input and pipes come once: after a restart, reading goes on with what comes then, so that what the killed
 * process had taken in and not committed is lost. Put what may not be lost into a file.
 */
export function fileSource(options: FileOptions): Source {
  const settings = check(options)
  const { path, name } = settings
  return {
    kind: 'file',
    name,
    open: (context, { untilEnd }) => (path === '-' ? openStream(settings) : openFile(settings, context, untilEnd)),
  }
}

export interface FileSourceOptions<S extends StandardSchemaV1> extends FileOptions, SourceOptions<S> {
  name?: string
}

/**
 * Reads a file as a stream: JSON lines or CSV, plain or in a gzip archive; or standard input.
 *
 * Every record is read once, also after a crash, for positions are byte offsets that are committed with what came of the
 * record. A file that was cut or changed before that position is refused; a followed file must only grow. Standard input
 * comes once: what a killed process had taken in and not committed is lost. Lines that are not JSON, or not what the
 * schema wants, are dead letters with their bytes.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * const Order = z.object({ id: z.string(), customer: z.string(), total: z.coerce.number(), at: z.coerce.number() })
 * fromFile({ path: 'orders.csv', schema: Order, key: (o) => o.customer, time: (o) => o.at })
 * ```
 */
export function fromFile<S extends StandardSchemaV1>(
  options: FileSourceOptions<S>,
): SourceStream<StandardSchemaV1.InferOutput<S>, StandardSchemaV1.InferInput<S>> {
  return stream(fileSource(options), options)
}

function check(options: FileOptions): Settings {
  const { path } = options
  if (typeof path !== 'string' || path === '') {
    throw new MillraceError('BAD_OPTION', `file: path must be a path, or '-' for standard input, got ${shown(path)}`)
  }
  const where = `file ${shown(path)}`
  const { format = /\.csv(\.gz)?$/i.test(path) ? 'csv' : 'jsonl', follow = false, encoding = 'utf-8' } = options
  const {
    delimiter = ',',
    maxRecord = '8MB',
    name = path === '-' ? 'stdin' : basename(path).replace(/\.[^.]+(\.gz)?$/, ''),
  } = options
  const wrong = (option: string, wanted: string, got: unknown) => {
    throw new MillraceError('BAD_OPTION', `${where}: ${option} must be ${wanted}, got ${shown(got)}`)
  }
  if (format !== 'jsonl' && format !== 'csv') wrong('format', "'jsonl' or 'csv'", format)
  if (encoding !== 'utf-8' && encoding !== 'windows-1252') wrong('encoding', "'utf-8' or 'windows-1252'", encoding)
  if (typeof follow !== 'boolean') wrong('follow', 'true or false', follow)
  if (!/^[\t -!#-~]$/.test(delimiter)) wrong('delimiter', "one character such as ',' or ';'", delimiter)
  return { path, format, follow, encoding, delimiter, name, maxRecord: bytes(maxRecord, `${where}: maxRecord`) }
}

async function openFile(settings: Settings, { runtime }: ConnectorContext, untilEnd: boolean): Promise<OpenSource> {
  const path = resolve(settings.path)
  const found = await stat(path).catch((error) => {
    throw fileError(path, error)
  })
  if (found.isDirectory()) throw new MillraceError('SOURCE_FAILED', `${path}: it is a folder; name a file`)
  if (!found.isFile()) return openStream(settings)
  const zipped = await beginsAsGzip(path)
  const { follow } = settings
  if (follow && zipped) {
    throw new MillraceError(
      'BAD_OPTION',
      `${path}: an archive does not grow, and cannot be followed; leave \`follow\` away`,
    )
  }
  const end = follow && untilEnd ? { end: found.size } : {}
  const input = async (): Promise<ByteInput> => {
    const file = await FileInput.open(path, { follow, runtime, ...end })
    return zipped ? new GunzipInput(file, path) : file
  }
  return opened(`file:${path}`, settings, (from) => readFile(input, path, settings, from))
}

async function openStream(settings: Settings): Promise<OpenSource> {
  const { path } = settings
  const pipe = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 262_144 })
  const input = new GunzipInput(new StreamInput(pipe, path === '-' ? 'standard input' : path), path)
  const identity = path === '-' ? 'file:-' : `file:${resolve(path)}`
  const source = opened(identity, settings, async (from) => {
    return new FileReader(input, { ...readerOptions(settings), takesUnended: true, position: from?.next ?? 0 })
  })
  return { ...source, close: () => input.close() }
}

function opened(identity: string, { name }: Settings, reader: (from?: ReadFrom) => Promise<Reader>): OpenSource {
  return {
    identity,
    partitions: 1,
    unit: 'bytes',
    decode: (record) => decode(record, name),
    reader: (_, from) => reader(from),
    close: async () => undefined,
  }
}

async function readFile(
  input: () => Promise<ByteInput>,
  path: string,
  settings: Settings,
  from: ReadFrom | undefined,
): Promise<Reader> {
  const common = { ...readerOptions(settings), path, takesUnended: !settings.follow }
  const bytes = await input()
  if (from === undefined || from.next === 0) return new FileReader(bytes, { ...common, position: 0 })
  try {
    const afterUnended = await comeTo(bytes, from, path)
    const columns = settings.format === 'csv' ? { columns: await readColumns(input, common) } : {}
    return new FileReader(bytes, { ...common, ...columns, position: from.next, afterUnended })
  } catch (error) {
    await bytes.close()
    throw error
  }
}

async function readColumns(
  input: () => Promise<ByteInput>,
  options: Omit<ConstructorParameters<typeof FileReader>[1], 'position'>,
): Promise<readonly string[]> {
  const reader = new FileReader(await input(), { ...options, position: 0 })
  try {
    await reader.read({ records: 1, bytes: 1 })
    return reader.columns ?? []
  } finally {
    await reader.close()
  }
}

function readerOptions({ path, format, delimiter, encoding, maxRecord }: Settings) {
  return { path, delimiter: format === 'csv' ? delimiter : undefined, encoding, maxRecord }
}

function decode({ value, position }: RawRecord, name: string): unknown {
  let problem = 'is not JSON'
  try {
    if (typeof value === 'string') return JSON.parse(value)
    if (value instanceof Unreadable) problem = value.reason
    else return csvObject(value as CsvRow)
  } catch (error) {
    // The JSON parser's own message quotes the payload, which messages may not.
    if (error instanceof MillraceError) problem = `is no row of the file: ${error.message}`
  }
  throw new MillraceError(
    'UNDECODABLE',
    `${name}: the record at byte ${position} ${problem}; see its bytes in the dead letters`,
  )
}

async function beginsAsGzip(path: string): Promise<boolean> {
  const handle = await open(path, 'r').catch((error) => {
    throw fileError(path, error)
  })
  try {
    const head = Buffer.alloc(2)
    await handle.read(head, 0, 2, 0)
    return isGzip(head)
  } catch (error) {
    throw fileError(path, error)
  } finally {
    await handle.close()
  }
}
