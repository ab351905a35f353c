import { existsSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { MillraceError } from '../core/errors.ts'
import type { StoredBatch, StoredBlob, StoredDeadLetter } from '../core/store.ts'
import { checkFormat } from './examine.ts'
import { damaged, type Progress, stateError, stateReader } from './format.ts'
import { type BlobRow, storedBatch, type TaskRow } from './rows.ts'
import { readWitness } from './witness.ts'

/** A task as it stands in the state file. */
export interface InspectedTask {
  readonly task: string
  readonly fence: number
  readonly epoch: number
  readonly deaths: number
  /** The engine's JSON: positions, watermarks, counts. Empty before the first commit. */
  readonly facts: string | undefined
  readonly receipts: Readonly<Record<string, string>>
}

/** What a lane has staged. */
export interface InspectedLane {
  readonly task: string
  readonly sink: string
  readonly batches: number
  readonly rows: number
  readonly bytes: number
  /** When its first batch was staged, epoch milliseconds of the task's clock. */
  readonly stagedAt: number
}

/** A piece of state as it is stored. */
export interface InspectedSlot {
  readonly task: string
  /** The operator's name and the state's own: `dedup/seen`. */
  readonly slot: string
  /** The format of its newest blob. */
  readonly format: string
  readonly blobs: number
  readonly bytes: number
}

export interface InspectedStore {
  readonly id: string
  /** The version of the file's layout. */
  readonly format: number
  readonly commits: number
  /** The file is older than its witness: a start would be refused (STATE_BEHIND). */
  readonly behind: boolean
  /** Bytes of the file, and of the write-ahead log beside it. */
  readonly bytes: number
  readonly logBytes: number
}

/** Which dead letters are meant; all of them if nothing is said. */
export interface DeadLetterFilter {
  readonly task?: string
  /** Where it failed: `decode`, an operator's or a sink's name. */
  readonly where?: string
}

/**
 * A view of a state file from outside the worker, also while it runs. Each call sees the file as of one commit.
 *
 * Every method throws STATE_DAMAGED for what fails its checksum.
 */
export interface StateInspector {
  store(): InspectedStore
  tasks(): readonly InspectedTask[]
  /** Lanes that have something staged. */
  lanes(task?: string): readonly InspectedLane[]
  /** Staged batches, each lane in its order. */
  staged(task?: string): readonly (StoredBatch & { readonly task: string })[]
  slots(task?: string): readonly InspectedSlot[]
  /** The blobs of a slot, oldest first: `describe` of `core/compaction.ts` lists what is in them. */
  blobs(task: string, slot: string): readonly StoredBlob[]
  readonly deadLetters: {
    /** In the order of their numbers, after the number `after`, at most `limit` (@default 100) of them. */
    list(options?: DeadLetterFilter & { readonly after?: number; readonly limit?: number }): readonly StoredDeadLetter[]
    get(id: number): StoredDeadLetter | undefined
    count(filter?: DeadLetterFilter): number
  }
  /** Reads everything, and returns how many bytes that were. */
  verify(): number
  close(): void
}

/** The same view of a store over a network: of each task as of one commit. */
export type RemoteInspector = Later<StateInspector>

type Later<T> = {
  readonly [K in keyof T]: T[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<R> : Later<T[K]>
}

const LETTERS_AT_ONCE = 100

/**
 * Opens a state file for reading; the worker that writes it is not disturbed.
 *
 * @throws MillraceError NOT_FOUND, STATE_TOO_NEW, STATE_DAMAGED
 */
export function inspect(path: string): StateInspector {
  if (!existsSync(path)) {
    throw new MillraceError(
      'NOT_FOUND',
      `there is no state file ${path}. Name the data directory of a pipeline that was run`,
    )
  }
  const db = openReadOnly(path)
  try {
    const identity = checkFormat(db, path)
    return inspector(db, path, identity)
  } catch (thrown) {
    db.close()
    throw notMade(path, thrown)
  }
}

function inspector(db: DatabaseSync, path: string, identity: { id: string; format: number }): StateInspector {
  const read = stateReader(db, path)

  /** Reads as of one commit, and lets go at once: a reader that stays keeps the write-ahead log from beginning anew. */
  function snapshot<T>(view: (tasks: readonly TaskRow[], progress: Progress) => T): T {
    try {
      db.exec('BEGIN')
      const progress = read.progress()
      return view(
        read.tasks(progress).sort((a, b) => (a.name < b.name ? -1 : 1)),
        progress,
      )
    } catch (thrown) {
      throw stateError(path, thrown)
    } finally {
      if (db.isTransaction) db.exec('ROLLBACK')
    }
  }

  const of = <T>(task: string | undefined, view: (row: TaskRow) => readonly T[]): readonly T[] =>
    snapshot((tasks) => tasks.filter(({ name }) => task === undefined || name === task).flatMap(view))

  const staged = (task?: string) =>
    of(task, (row) => read.batches(row).map((batch) => ({ ...storedBatch(batch), task: row.name })))

  function* letters(after = 0): Generator<StoredDeadLetter> {
    let last = after
    for (;;) {
      const some = read.letters(last, LETTERS_AT_ONCE)
      if (some.length === 0) return
      yield* some
      last = some.at(-1)!.id
    }
  }

  return {
    store: () =>
      snapshot((_, { commits }) => {
        const witness = readWitness(`${path}.witness`)
        const { id, format } = identity
        const behind = witness !== undefined && (witness.store !== id || witness.commits > commits)
        return { id, format, commits, behind, bytes: sizeOf(path), logBytes: sizeOf(`${path}-wal`) }
      }),
    tasks: () =>
      of(undefined, ({ name, fence, epoch, deaths, facts, receipts }) => [
        { task: name, fence, epoch, deaths, facts, receipts },
      ]),
    lanes: (task) => lanesOf(staged(task)),
    staged,
    slots: (task) => of(task, (row) => slotsOf(row.name, read.blobs(row))),
    blobs: (task, slot) =>
      of(task, (row) =>
        read
          .blobs(row)
          .filter((blob) => blob.slot === slot)
          .map(({ id, format, content }) => ({
            id,
            slot,
            format,
            bytes: read.content(content, `${task}: state of ${slot}`),
          })),
      ),
    deadLetters: {
      list: ({ after, limit = LETTERS_AT_ONCE, ...filter } = {}) =>
        snapshot(() => letters(after).filter(isMeant(filter)).take(limit).toArray()),
      get: (id) => snapshot(() => read.letter(id)),
      count: (filter = {}) =>
        snapshot(() =>
          letters()
            .filter(isMeant(filter))
            .reduce((count) => count + 1, 0),
        ),
    },
    verify: () =>
      snapshot((tasks) => {
        let bytes = 0
        for (const task of tasks) {
          for (const { content, slot } of read.blobs(task))
            bytes += read.content(content, `${task.name}: state of ${slot}`).length
          for (const { content, name } of read.batches(task)) bytes += read.content(content, `batch ${name}`).length
        }
        const counts = new Map<string, number>()
        for (const { task, bytes: own } of letters()) {
          counts.set(task, (counts.get(task) ?? 0) + 1)
          bytes += own.length
        }
        const short = tasks.find(({ name, letters: [count] }) => (counts.get(name) ?? 0) !== count)
        if (short)
          throw damaged(
            path,
            `${short.name}: ${counts.get(short.name) ?? 0} dead letters where ${short.letters[0]} were written`,
          )
        return bytes
      }),
    close: () => db.close(),
  }
}

/** What staged batches come to, lane by lane. */
export function lanesOf(staged: readonly (StoredBatch & { readonly task: string })[]): InspectedLane[] {
  const lanes = new Map<string, { -readonly [K in keyof InspectedLane]: InspectedLane[K] }>()
  for (const { task: name, sink, rows, size, stagedAt } of staged) {
    const lane = lanes.get(`${name} ${sink}`) ?? { task: name, sink, batches: 0, rows: 0, bytes: 0, stagedAt }
    lane.batches += 1
    lane.rows += rows
    lane.bytes += size
    lanes.set(`${name} ${sink}`, lane)
  }
  return [...lanes.values()]
}

/** What a task's blobs come to, slot by slot. */
export function slotsOf(task: string, rows: readonly BlobRow[]): InspectedSlot[] {
  const slots = new Map<string, InspectedSlot>()
  for (const { slot, format, content } of rows) {
    const { blobs, bytes } = slots.get(slot) ?? { blobs: 0, bytes: 0 }
    slots.set(slot, { task, slot, format, blobs: blobs + 1, bytes: bytes + content.size })
  }
  return [...slots.values()]
}

/** Whether a dead letter is one of those that are meant. */
export const isMeant =
  ({ task, where }: DeadLetterFilter) =>
  (letter: StoredDeadLetter) =>
    (task === undefined || letter.task === task) && (where === undefined || letter.where === where)

/** On a medium that cannot be written SQLite finds no place for its index of the log: without a log, none is needed. */
function openReadOnly(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
  try {
    db.prepare('SELECT 1 FROM sqlite_schema').get()
    return db
  } catch (thrown) {
    db.close()
    if (stateError(path, thrown).code !== 'DATA_DIR_UNWRITABLE' || sizeOf(`${path}-wal`) > 0)
      throw stateError(path, thrown)
    return new DatabaseSync(new URL(`${pathToFileURL(path)}?immutable=1`), { readOnly: true })
  }
}

function notMade(path: string, thrown: unknown): MillraceError {
  const error = stateError(path, thrown)
  return error.code === 'INTERNAL' ? damaged(path, 'it is no state file of Millrace', thrown) : error
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}
