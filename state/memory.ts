import { mergeBlobs } from '../core/compaction.ts'
import { MillraceError } from '../core/errors.ts'
import type {
  Change,
  CommitResult,
  Compaction,
  LaneChange,
  OpenedTask,
  StagedBatch,
  StateBlob,
  Store,
  StoredBatch,
  StoredDeadLetter,
} from '../core/store.ts'
import { refusal } from './refusal.ts'

/** How a group of changes fares on a memory disk: what the disk keeps, and what the store is told. */
export type Fate = 'committed' | 'failed' | 'unknown, applied' | 'unknown, lost'

export interface MemoryStoreOptions {
  /** What outlives the store. Give the same one again to open what an earlier store has committed. @default a new one */
  readonly disk?: MemoryDisk
  /**
   * Decides when and how a group of changes reaches the disk: a test's or a simulator's hand on time and faults. Until
   * it answers, the changes are volatile: a crash loses them. @default committed, in a later microtask
   */
  readonly flush?: (changes: readonly Change[]) => Fate | Promise<Fate>
}

interface MemoryTask {
  fence: number
  epoch: number
  deaths: number
  facts: string | undefined
  receipts: Record<string, string>
  readonly blobs: Map<number, StateBlob & { readonly order: number }>
  readonly batches: Map<
    string,
    Omit<StagedBatch, 'body'> & { body: Uint8Array; order: number; attempts: number; group?: string }
  >
}

/** The durable part of a memory store. */
export class MemoryDisk {
  readonly id: string
  readonly secret: Uint8Array
  readonly deadLetters: StoredDeadLetter[] = []
  /** The lives that have ended by a crash. */
  crashes = 0
  private readonly stored = new Map<string, MemoryTask>()
  private last = 0

  constructor({ id = 'memory', secret = new Uint8Array(32).fill(7) }: { id?: string; secret?: Uint8Array } = {}) {
    this.id = id
    this.secret = secret
  }

  /** Kills every store that is open on the disk: what they were asked for and have not answered never settles. */
  crash(): void {
    this.crashes += 1
  }

  /** The names of the tasks, in order. */
  tasks(): string[] {
    return [...this.stored.keys()].sort()
  }

  /** A task as it is stored, for a store or a test's eye. */
  task(name: string): MemoryTask | undefined {
    return this.stored.get(name)
  }

  /** The task, made if it is new. */
  make(name: string): MemoryTask {
    const fresh = {
      fence: 0,
      epoch: 0,
      deaths: 0,
      facts: undefined,
      receipts: {},
      blobs: new Map(),
      batches: new Map(),
    }
    const task = this.stored.get(name) ?? fresh
    this.stored.set(name, task)
    return task
  }

  /** A number that was not given before. */
  number(): number {
    this.last += 1
    return this.last
  }
}

/**
 * A store in memory, for tests and simulations. Changes wait in its volatile part until they are flushed to the disk,
 * together; `disk.crash()` ends the store as a kill would, and a store on the same disk opens what was flushed.
 */
export function memoryStore({ disk = new MemoryDisk(), flush = () => 'committed' }: MemoryStoreOptions = {}): Store {
  const life = disk.crashes
  const untried = new Set<string>()
  let waiting: { change: Change; settle: (result: CommitResult) => void }[] = []
  let flushing: Promise<void> | undefined
  let closed = false
  /** Why nothing can be built upon any more. */
  let doubt: string | undefined

  const dead = () => disk.crashes !== life
  const never = <T>() => new Promise<T>(() => undefined)

  async function flushAll(): Promise<void> {
    while (waiting.length > 0) {
      await Promise.resolve()
      const group = waiting
      waiting = []
      const fate = doubt === undefined ? await flush(group.map(({ change }) => change)) : 'unknown, lost'
      if (dead()) return
      const results = group.map(({ change }) => judge(change, fate))
      group.forEach(({ settle }, index) => void settle(results[index]!))
    }
    flushing = undefined
  }

  function judge(change: Change, fate: Fate): CommitResult {
    if (fate === 'failed')
      return { kind: 'failed', error: new MillraceError('DISK_FULL', 'memory disk: no room', { retriable: true }) }
    if (fate === 'unknown, lost') return { kind: 'unknown', reason: (doubt ??= 'memory disk: the answer was lost') }
    const result = apply(change)
    if (fate === 'committed') return result
    return { kind: 'unknown', reason: (doubt ??= 'memory disk: the answer was lost') }
  }

  function apply(change: Change): CommitResult {
    const task = disk.task(change.task)
    if (task === undefined || task.fence !== change.fence) return { kind: 'fenced' }
    const refused = refusal(task, change)
    if (refused !== undefined) {
      return {
        kind: 'failed',
        error: new MillraceError('INTERNAL', `${change.task}: the change was refused: ${refused}`),
      }
    }
    const {
      dropSlots = [],
      renameSlots = {},
      compactions = [],
      blobs = [],
      staged = [],
      lanes = [],
      deadLetters = [],
    } = change
    for (const [id, blob] of task.blobs) {
      if (dropSlots.includes(blob.slot)) task.blobs.delete(id)
    }
    for (const [from, to] of Object.entries(renameSlots)) {
      for (const [id, blob] of task.blobs) if (blob.slot === from) task.blobs.set(id, { ...blob, slot: to })
    }
    const compacted = compactions.map((compaction) => compact(task, compaction))
    const ids = blobs.map((blob) => {
      const id = disk.number()
      task.blobs.set(id, { ...blob, order: id })
      return id
    })
    for (const batch of staged) stage(task, batch)
    for (const lane of lanes) applyLane(task, lane)
    for (const letter of deadLetters)
      disk.deadLetters.push({ ...letter, id: disk.deadLetters.length + 1, task: change.task })
    if (change.facts !== undefined) task.facts = change.facts
    if (change.epoch !== undefined) {
      task.epoch = change.epoch
      task.deaths = 0
      untried.delete(change.task)
    }
    return { kind: 'committed', blobs: ids, compacted }
  }

  function compact(task: MemoryTask, { slot, format, replaces, bytes }: Compaction): number {
    const { order } = task.blobs.get(replaces[0]!)!
    for (const id of replaces) task.blobs.delete(id)
    if (bytes === undefined) return 0
    const id = disk.number()
    task.blobs.set(id, { slot, format, bytes, order })
    return id
  }

  function stage(task: MemoryTask, batch: StagedBatch, order = disk.number()): void {
    task.batches.set(batch.name, { ...batch, order, attempts: 0 })
  }

  function applyLane(
    task: MemoryTask,
    { sink, remove = [], receipt, replace, group, ungroup, attempts = [] }: LaneChange,
  ): void {
    const order = replace && task.batches.get(replace.of)!.order
    for (const batch of ungroup === undefined ? [] : task.batches.values())
      if (batch.sink === sink && batch.group === ungroup) delete batch.group
    for (const name of group?.members ?? []) task.batches.get(name)!.group = group!.name
    for (const name of attempts) task.batches.get(name)!.attempts += 1
    for (const name of remove) task.batches.delete(name)
    if (replace) {
      task.batches.delete(replace.of)
      stage(task, replace.by, order)
    }
    if (receipt !== undefined) task.receipts = { ...task.receipts, [sink]: receipt }
  }

  return {
    id: disk.id,
    secret: disk.secret,
    async open(name) {
      await flushing
      if (dead()) return never()
      check(closed, doubt)
      const task = disk.make(name)
      const { deaths } = task
      task.fence += 1
      task.deaths += 1
      untried.add(name)
      const found = opened(task, deaths)
      await Promise.resolve()
      return dead() ? never() : found
    },
    async commit(change) {
      if (dead()) return never()
      if (closed) return { kind: 'failed', error: new MillraceError('INTERNAL', 'the store is closed. Open it again') }
      const own = copyOf(change)
      return new Promise((settle) => {
        waiting.push({ change: own, settle })
        flushing ??= flushAll()
      })
    },
    async body(task, name) {
      if (dead()) return never()
      check(closed, doubt)
      const batch = disk.task(task)?.batches.get(name)
      if (batch === undefined) throw new MillraceError('NOT_FOUND', `${task}: there is no staged batch ${name}`)
      return new Uint8Array(batch.body)
    },
    async merge(task, { slot, format, blobs, oldest, horizon }) {
      if (dead()) return never()
      check(closed, doubt)
      const bytes = blobs.map((id) => {
        const blob = disk.task(task)?.blobs.get(id)
        if (blob?.slot !== slot) throw new MillraceError('NOT_FOUND', `${task}: ${slot} has no blob ${id}`)
        return blob.bytes
      })
      return mergeBlobs(format, bytes, { oldest, horizon })
    },
    async tasks() {
      return dead() ? never() : disk.tasks()
    },
    async close() {
      if (dead()) return never()
      await flushing
      if (closed) return
      closed = true
      for (const name of untried) disk.task(name)!.deaths -= 1
    },
  }
}

/** A copy of plain data that shares nothing with it: `structuredClone` takes ten times as long. */
function copyOf<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Uint8Array) return new Uint8Array(value) as T
  if (Array.isArray(value)) return value.map(copyOf) as T
  const made: Record<string, unknown> = {}
  for (const key in value) made[key] = copyOf(value[key])
  return made as T
}

function opened(task: MemoryTask, deaths: number): OpenedTask {
  const { fence, epoch, facts, receipts } = task
  const blobs = [...task.blobs]
    .sort(([, a], [, b]) => a.order - b.order)
    .map(([id, { slot, format, bytes }]) => ({ id, slot, format, bytes: new Uint8Array(bytes) }))
  const batches = [...task.batches.values()]
    .sort((a, b) => a.order - b.order)
    .map(({ order: _order, body, ...batch }): StoredBatch => ({ ...batch, size: body.byteLength }))
  return { fence, epoch, facts, receipts, deaths, blobs, batches }
}

function check(closed: boolean, doubt: string | undefined): void {
  if (closed) throw new MillraceError('INTERNAL', 'the store is closed. Open it again')
  if (doubt !== undefined) throw new MillraceError('STATE_FAILED', `${doubt}. Open the store again`)
}
