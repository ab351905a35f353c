import { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { MillraceError } from '../core/errors.ts'
import type { CommitResult, LaneChange, StagedBatch } from '../core/store.ts'
import { examine } from './examine.ts'
import {
  FORMAT,
  LAST_BIT_BYTES,
  PAGE_BYTES,
  type Progress,
  primaryCode,
  SCHEMA,
  SQLITE,
  stateError,
  stateReader,
} from './format.ts'
import type { OpenedListing, PiecePosted, PostedChange } from './messages.ts'
import { refusal } from './refusal.ts'
import {
  type BatchRow,
  type BlobRow,
  batchText,
  blobText,
  type Content,
  type Identity,
  letterText,
  PIECE_BYTES,
  rowSum,
  storedBatch,
  type TaskRow,
  tally,
  taskText,
} from './rows.ts'
import { openWitness } from './witness.ts'

export interface StateFileOptions {
  readonly path: string
  /** Go on from a file that is older than its witness. */
  readonly acceptOlder: boolean
  /** Of the store, if it has to be made: its id, and 32 random bytes. */
  readonly id: string
  readonly secret: Uint8Array
  /** Asks for a checkpoint on another connection, after which `checkpointed` is called. */
  readonly checkpoint: () => void
}

/** The state file on its one writing connection, and what of it is kept in memory to judge changes by. */
export interface StateFile {
  readonly identity: Identity
  /** Applies changes in one durable transaction; sweeps a little beside it. The results stand in the changes' order. */
  commit(changes: readonly PostedChange[]): CommitResult[]
  /**
   * Raises a task's fence and counts a death.
   *
   * @throws MillraceError
   */
  open(task: string): OpenedListing
  body(task: string, name: string): Uint8Array<ArrayBuffer>
  tasks(): readonly string[]
  /** Stores a piece of a merged blob that nothing refers to yet, and returns the first piece's number. */
  install(piece: PiecePosted): number
  /** Deletes some of what nothing refers to; false when nothing is left. */
  sweep(): boolean
  checkpointed(failure?: MillraceError): void
  /** Takes back the deaths of tasks that lived to see an orderly end, and leaves one file and its witness. */
  close(): void
}

/** What a transaction deletes at once; more is left to be swept. */
const DELETE_BYTES = 8 * PIECE_BYTES
/** Pieces that are swept beside a commit, and when there is nothing else to do. */
const SWEEP_PIECES = { beside: 1, idle: 4 } as const
/** The write-ahead log is copied into the file when so much of it waits; the last bit, between two commits. */
const CHECKPOINT_BYTES = 64 * PIECE_BYTES
/** Past this size of the log commits slow down, so that copying catches up and the log can begin anew. */
const CROWDED_BYTES = 2 * CHECKPOINT_BYTES
const LONGEST_PAUSE_MS = 40
/** What a transaction adds to the write-ahead log beside its contents, about. */
const TRANSACTION_BYTES = 5 * PAGE_BYTES

/** What nobody wakes a wait on. */
const NEVER = new Int32Array(new SharedArrayBuffer(4))

interface Task extends TaskRow {
  /** Read when they are needed first. */
  lists?: Lists
}

interface Lists {
  readonly blobs: Map<number, BlobRow>
  readonly batches: Map<string, BatchRow>
}

/**
 * Opens the state file, or makes it, after it was examined.
 *
 * @throws MillraceError STATE_TOO_NEW, STATE_BEHIND, STATE_DAMAGED, DATA_DIR_UNWRITABLE, DISK_FULL
 */
export function openStateFile({ path, acceptOlder, id, secret, checkpoint }: StateFileOptions): StateFile {
  const found = examine(path, { acceptOlder })
  const identity = found ?? { format: FORMAT, id, secret: Buffer.from(secret).toString('hex') }
  const db = new DatabaseSync(path, { timeout: 5_000 })
  configure(db)
  if (found === undefined) create(db, identity)
  else emptyLog(db)
  const sql = prepare(db)
  const read = stateReader(db, path)
  const witness = openWitness(`${path}.witness`)

  let progress: Progress
  let tasks: Map<string, Task>
  /** Pieces that nothing refers to: how many, by the first of them. */
  let loose: Map<number, number>
  /** Of these, the ones of merged blobs that wait to take their place, with what they are of. */
  const held = new Map<number, string>()
  /** Tasks that were opened in this life and have not committed an epoch since. */
  const untried = new Set<string>()
  /** Why nothing can be committed any more, once the disk has answered with an error. */
  let broken: MillraceError | undefined

  let changed = new Set<Task>()
  let afterwards: (() => void)[] = []
  let writes = 0
  let written = 0
  let deletable = 0
  let unwatched = 0
  let checkpointing = false

  load()
  testify(false)

  function load(): void {
    progress = read.progress()
    tasks = new Map(read.tasks(progress).map((task) => [task.name, task]))
    loose = new Map(read.loose().map(({ first, pieces }) => [first, pieces]))
  }

  /** Does what `work` does in one durable transaction, or, when it throws, nothing of it. */
  function transaction<T>(work: () => T): T {
    if (broken) throw broken
    changed = new Set()
    afterwards = []
    writes = 0
    written = 0
    deletable = DELETE_BYTES
    let result: T
    try {
      sql.begin.run()
      result = work()
      for (const task of changed) putTask(task)
      if (writes === 0) {
        db.exec('ROLLBACK')
        return result
      }
      progress.commits += 1
      const text = JSON.stringify(progress)
      sql.progress.run(text, rowSum('meta', 2, text))
      sql.commit.run()
    } catch (thrown) {
      undo(thrown)
      throw broken ?? stateError(path, thrown)
    }
    testify(false)
    for (const settle of afterwards) settle()
    watchLog()
    return result
  }

  /** After a failed write, what the disk holds is not known, and a second answer of the same disk proves nothing. */
  function undo(thrown: unknown): void {
    if (primaryCode(thrown) === SQLITE.io) {
      broken = stateError(path, thrown)
      return
    }
    try {
      if (db.isTransaction) db.exec('ROLLBACK')
      load()
    } catch (worse) {
      broken = stateError(path, worse)
    }
  }

  function testify(closed: boolean): void {
    try {
      witness.write({ store: identity.id, commits: progress.commits, closed })
    } catch {
      // The commit stands without it: a witness that is behind accuses nobody.
    }
  }

  function watchLog(): void {
    unwatched += written + TRANSACTION_BYTES
    if (unwatched < CHECKPOINT_BYTES / 16) return
    unwatched = 0
    const { size, waiting } = log()
    if (!checkpointing && waiting >= CHECKPOINT_BYTES) {
      checkpointing = true
      checkpoint()
    }
    const crowd = (size - CROWDED_BYTES) / CROWDED_BYTES
    if (checkpointing && crowd > 0) Atomics.wait(NEVER, 0, 0, Math.min(1, crowd) * LONGEST_PAUSE_MS)
  }

  /** Bytes of the write-ahead log, and of these the ones that are not in the file yet. */
  function log(): { size: number; waiting: number } {
    const { log, checkpointed } = sql.logged.get() as { log: number; checkpointed: number }
    return { size: log * PAGE_BYTES, waiting: (log - checkpointed) * PAGE_BYTES }
  }

  function putTask(task: Task): void {
    if (task.crc >= 0) tally(progress.tasks, -1, task.crc)
    const text = taskText(task)
    task.crc = rowSum('tasks', task.id, text, task.facts)
    tally(progress.tasks, 1, task.crc)
    sql.putTask.run(task.id, text, task.facts ?? null, task.crc)
    writes += 1
    written += text.length + (task.facts?.length ?? 0)
  }

  function putBlob(task: Task, row: BlobRow): void {
    if (row.crc >= 0) tally(task.blobs, -1, row.crc)
    const text = blobText(row)
    row.crc = rowSum('blobs', `${task.id}/${row.id}`, text)
    tally(task.blobs, 1, row.crc)
    listsOf(task).blobs.set(row.id, row)
    sql.putBlob.run(task.id, row.id, text, row.crc)
  }

  function dropBlob(task: Task, row: BlobRow): void {
    tally(task.blobs, -1, row.crc)
    listsOf(task).blobs.delete(row.id)
    sql.dropBlob.run(task.id, row.id)
    free(row.content)
  }

  function putBatch(task: Task, row: BatchRow): void {
    if (row.crc >= 0) tally(task.batches, -1, row.crc)
    const text = batchText(row)
    row.crc = rowSum('batches', `${task.id}/${row.id}`, text)
    tally(task.batches, 1, row.crc)
    listsOf(task).batches.set(row.name, row)
    sql.putBatch.run(task.id, row.id, text, row.crc)
    written += text.length
  }

  function dropBatch(task: Task, row: BatchRow): void {
    tally(task.batches, -1, row.crc)
    listsOf(task).batches.delete(row.name)
    sql.dropBatch.run(task.id, row.id)
    free(row.content)
  }

  function stage(task: Task, { body, ...batch }: StagedBatch, order?: number): void {
    const id = number()
    putBatch(task, { ...batch, id, crc: -1, order: order ?? id, attempts: 0, content: putContent(body) })
  }

  function number(): number {
    progress.next += 1
    return progress.next - 1
  }

  function putContent(bytes: Uint8Array): Content {
    const first = progress.next
    for (let at = 0; at < bytes.length; at += PIECE_BYTES)
      sql.putPiece.run(number(), bytes.subarray(at, at + PIECE_BYTES))
    written += bytes.length
    return { first, pieces: progress.next - first, size: bytes.length, sum: crc32(bytes) }
  }

  function free({ first, pieces, size }: Content): void {
    if (pieces === 0) return
    if (size > deletable) {
      putLoose(first, pieces)
    } else {
      deletable -= size
      sql.dropPieces.run(first, first + pieces - 1)
    }
  }

  function putLoose(first: number, pieces: number): void {
    loose.set(first, pieces)
    sql.putLoose.run(first, pieces, rowSum('loose', first, String(pieces)))
    writes += 1
  }

  function dropLoose(first: number): void {
    loose.delete(first)
    sql.dropLoose.run(first)
    writes += 1
  }

  function sweepPieces(pieces: number): void {
    let left = pieces
    for (const [first, count] of loose) {
      if (left === 0) return
      if (held.has(first)) continue
      const some = Math.min(left, count)
      sql.dropPieces.run(first + count - some, first + count - 1)
      if (some === count) dropLoose(first)
      else putLoose(first, count - some)
      left -= some
    }
  }

  function listsOf(task: Task): Lists {
    task.lists ??= {
      blobs: new Map(read.blobs(task).map((row) => [row.id, row])),
      batches: new Map(read.batches(task).map((row) => [row.name, row])),
    }
    return task.lists
  }

  function apply(change: PostedChange): CommitResult {
    const task = tasks.get(change.task)
    if (task === undefined || task.fence !== change.fence) return { kind: 'fenced' }
    const lists = listsOf(task)
    const { blobs = [], staged = [], lanes = [], deadLetters = [], compactions = [] } = change
    const refused = refusal({ epoch: task.epoch, ...lists }, change) ?? lostMerge(compactions)
    if (refused !== undefined) {
      return {
        kind: 'failed',
        error: new MillraceError('INTERNAL', `${task.name}: the change was refused: ${refused}`),
      }
    }
    changed.add(task)

    for (const slot of change.dropSlots ?? []) {
      for (const row of lists.blobs.values()) if (row.slot === slot) dropBlob(task, row)
    }
    for (const [from, to] of Object.entries(change.renameSlots ?? {})) {
      for (const row of lists.blobs.values()) if (row.slot === from) putBlob(task, { ...row, slot: to })
    }
    const compacted = compactions.map((compaction) => compact(task, lists, compaction))
    const ids = blobs.map(({ slot, format, bytes }) => {
      const id = number()
      putBlob(task, { id, crc: -1, slot, format, order: id, content: putContent(bytes) })
      return id
    })
    for (const batch of staged) stage(task, batch)
    for (const lane of lanes) applyLane(task, lists, lane)
    for (const letter of deadLetters) {
      progress.letters += 1
      const text = letterText({ ...letter, task: task.name })
      const crc = rowSum('dead_letters', progress.letters, text, letter.bytes)
      tally(task.letters, 1, crc)
      sql.putLetter.run(progress.letters, text, letter.bytes, crc)
      written += text.length + letter.bytes.length
    }
    if (change.facts !== undefined) task.facts = change.facts
    if (change.epoch !== undefined) {
      task.epoch = change.epoch
      task.deaths = 0
      afterwards.push(() => untried.delete(task.name))
    }
    return { kind: 'committed', blobs: ids, compacted }
  }

  function lostMerge(compactions: NonNullable<PostedChange['compactions']>): string | undefined {
    const lost = compactions.find(({ installed }) => installed && !held.has(installed.first))
    return lost && `the merged bytes of ${lost.slot} were given up for a later merge`
  }

  function compact(task: Task, lists: Lists, compaction: NonNullable<PostedChange['compactions']>[number]): number {
    const { slot, format, replaces, bytes, installed } = compaction
    const { order } = lists.blobs.get(replaces[0]!)!
    for (const id of replaces) dropBlob(task, lists.blobs.get(id)!)
    if (bytes === undefined && installed === undefined) return 0
    const id = number()
    if (installed) {
      dropLoose(installed.first)
      afterwards.push(() => held.delete(installed.first))
    }
    putBlob(task, { id, crc: -1, slot, format, order, content: installed ?? putContent(bytes!) })
    return id
  }

  function applyLane(
    task: Task,
    { batches }: Lists,
    { sink, remove = [], receipt, replace, group, ungroup, attempts = [] }: LaneChange,
  ): void {
    const order = replace && batches.get(replace.of)!.order
    for (const row of ungroup === undefined ? [] : [...batches.values()]) {
      if (row.sink !== sink || row.group !== ungroup) continue
      const { group: _, ...alone } = row
      putBatch(task, alone)
    }
    for (const name of group?.members ?? []) putBatch(task, { ...batches.get(name)!, group: group!.name })
    for (const name of attempts) {
      const row = batches.get(name)!
      putBatch(task, { ...row, attempts: row.attempts + 1 })
    }
    for (const name of replace ? new Set([...remove, replace.of]) : remove) dropBatch(task, batches.get(name)!)
    if (replace) stage(task, replace.by, order)
    if (receipt !== undefined) task.receipts = { ...task.receipts, [sink]: receipt }
  }

  return {
    identity,
    commit(changes) {
      try {
        return transaction(() => {
          const results = changes.map(apply)
          sweepPieces(SWEEP_PIECES.beside)
          return results
        })
      } catch (thrown) {
        if (broken) return changes.map(() => ({ kind: 'unknown', reason: broken!.message }))
        // Nothing was applied. What cannot be stored must not take what was grouped with it along.
        if (changes.length > 1) return changes.flatMap((change) => this.commit([change]))
        return [{ kind: 'failed', error: stateError(path, thrown) }]
      }
    },
    open(name) {
      const known = tasks.get(name)
      const deaths = known?.deaths ?? 0
      if (known) listsOf(known)
      for (const [first, owner] of held) if (owner.startsWith(`${name} `)) held.delete(first)
      const { fence, epoch, facts, receipts, lists } = transaction(() => {
        const task = tasks.get(name) ?? newTask(number(), name)
        task.fence += 1
        task.deaths += 1
        tasks.set(name, task)
        changed.add(task)
        return task
      })
      untried.add(name)
      const blobs = [...(lists?.blobs.values() ?? [])].sort((a, b) => a.order - b.order)
      const batches = [...(lists?.batches.values() ?? [])].sort((a, b) => a.order - b.order).map(storedBatch)
      return { fence, epoch, facts, receipts, deaths, blobs, batches }
    },
    body(task, name) {
      if (broken) throw broken
      const known = tasks.get(task)
      const row = known && listsOf(known).batches.get(name)
      if (row === undefined) throw new MillraceError('NOT_FOUND', `${task}: there is no staged batch ${name}`)
      return read.content(row.content, `batch ${name}`)
    },
    tasks: () => [...tasks.keys()].sort(),
    install({ task, slot, pieces, index, first, bytes }) {
      const owner = `${task} ${slot}`
      if (index > 0 && !held.has(first))
        throw new MillraceError('FENCED', `${task}: the merge of ${slot} was overtaken`)
      if (index === 0) for (const [other, of] of held) if (of === owner) held.delete(other)
      return transaction(() => {
        const start = index === 0 ? progress.next : first
        if (index === 0) {
          progress.next += pieces
          putLoose(start, pieces)
          afterwards.push(() => held.set(start, owner))
        }
        sql.putPiece.run(start + index, bytes)
        writes += 1
        written += bytes.length
        return start
      })
    },
    sweep() {
      if (broken || loose.size === held.size) return false
      try {
        transaction(() => sweepPieces(SWEEP_PIECES.idle))
        return true
      } catch {
        // With a full disk there is no room to make room: later commits try again.
        return false
      }
    },
    checkpointed(failure) {
      checkpointing = false
      try {
        if (failure) throw failure
        if (!broken && log().waiting <= LAST_BIT_BYTES) sql.checkpoint.get()
      } catch (thrown) {
        // What is not copied stays in the log, and is copied when there is room. Another error says the disk fails.
        const error = stateError(path, thrown)
        if (error.code !== 'DISK_FULL') broken ??= error
      }
    },
    close() {
      try {
        transaction(() => {
          for (const name of untried) {
            const task = tasks.get(name)!
            task.deaths -= 1
            changed.add(task)
          }
        })
        sql.checkpoint.get()
      } catch {
        // All commits are in the log; what could not be done here is done at the next start.
      }
      db.close()
      if (!broken) testify(true)
      witness.close()
    },
  }
}

function newTask(id: number, name: string): Task {
  const none = { blobs: [0, 0], batches: [0, 0], letters: [0, 0] } satisfies Record<string, [number, number]>
  const lists = { blobs: new Map(), batches: new Map() }
  return { id, crc: -1, name, fence: 0, epoch: 0, deaths: 0, facts: undefined, receipts: {}, ...none, lists }
}

function configure(db: DatabaseSync): void {
  db.exec(`
    PRAGMA page_size = ${PAGE_BYTES};
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = ${CROWDED_BYTES};
    PRAGMA cache_size = -32768;
    PRAGMA cell_size_check = ON;
  `)
}

/** What a killed worker left in the log; with a full disk it stays there, and counts all the same. */
function emptyLog(db: DatabaseSync): void {
  try {
    db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()
  } catch (thrown) {
    if (primaryCode(thrown) !== SQLITE.full) throw thrown
  }
}

function create(db: DatabaseSync, identity: Identity): void {
  const progress: Progress = { commits: 0, next: 1, letters: 0, tasks: [0, 0] }
  const put = (id: number, text: string) =>
    db.prepare('INSERT INTO meta (id, value, crc) VALUES (?, ?, ?)').run(id, text, rowSum('meta', id, text))
  db.exec('BEGIN IMMEDIATE')
  for (const table of Object.values(SCHEMA)) db.exec(table)
  put(1, JSON.stringify(identity))
  put(2, JSON.stringify(progress))
  db.exec('COMMIT')
}

function prepare(db: DatabaseSync) {
  return {
    begin: db.prepare('BEGIN IMMEDIATE'),
    commit: db.prepare('COMMIT'),
    logged: db.prepare('PRAGMA wal_checkpoint(NOOP)'),
    checkpoint: db.prepare('PRAGMA wal_checkpoint(PASSIVE)'),
    progress: db.prepare('UPDATE meta SET value = ?, crc = ? WHERE id = 2'),
    putTask: db.prepare('INSERT OR REPLACE INTO tasks (id, value, facts, crc) VALUES (?, ?, ?, ?)'),
    putBlob: db.prepare('INSERT OR REPLACE INTO blobs (task, id, value, crc) VALUES (?, ?, ?, ?)'),
    dropBlob: db.prepare('DELETE FROM blobs WHERE task = ? AND id = ?'),
    putBatch: db.prepare('INSERT OR REPLACE INTO batches (task, id, value, crc) VALUES (?, ?, ?, ?)'),
    dropBatch: db.prepare('DELETE FROM batches WHERE task = ? AND id = ?'),
    putLetter: db.prepare('INSERT INTO dead_letters (id, value, bytes, crc) VALUES (?, ?, ?, ?)'),
    putPiece: db.prepare('INSERT INTO pieces (id, bytes) VALUES (?, ?)'),
    dropPieces: db.prepare('DELETE FROM pieces WHERE id BETWEEN ? AND ?'),
    putLoose: db.prepare('INSERT OR REPLACE INTO loose (first, pieces, crc) VALUES (?, ?, ?)'),
    dropLoose: db.prepare('DELETE FROM loose WHERE first = ?'),
  }
}
