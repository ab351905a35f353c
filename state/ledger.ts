import { crc32 } from 'node:zlib'
import type { Compaction, LaneChange, StagedBatch } from '../core/store.ts'
import type { PostedChange } from './messages.ts'
import { refusal } from './refusal.ts'
import {
  type BatchRow,
  type BlobRow,
  batchText,
  blobText,
  type Content,
  letterText,
  PIECE_BYTES,
  rowSum,
  type Tally,
  tally,
} from './rows.ts'

/** What of a task stands in one row: all that is replaced whole. */
export interface LedgerHead {
  readonly epoch: number
  readonly facts: string | undefined
  readonly receipts: Readonly<Record<string, string>>
  /** The number that the next blob, batch or piece gets. */
  readonly next: number
  readonly commits: number
  readonly blobs: Tally
  readonly batches: Tally
  /** How many dead letters there are, the sum of their checksums, and the number of the last. */
  readonly letters: Tally
  readonly lastLetter: number
}

/** What a group of changes writes, in the order in which it has to be written. */
export interface Writes {
  readonly letters: { readonly id: number; readonly text: string; readonly crc: number; readonly bytes: Uint8Array }[]
  readonly pieces: Map<number, Uint8Array>
  /** Rows' checksums and texts by their number; `null` removes one. */
  readonly blobs: Map<number, string | null>
  readonly batches: Map<number, string | null>
  readonly freed: number[]
}

/** What a change came to before anything was written. */
export type Judged =
  | { readonly kind: 'applied'; readonly blobs: readonly number[]; readonly compacted: readonly number[] }
  | { readonly kind: 'refused'; readonly why: string }

export const NOTHING: LedgerHead = {
  epoch: 0,
  facts: undefined,
  receipts: {},
  next: 1,
  commits: 0,
  blobs: [0, 0],
  batches: [0, 0],
  letters: [0, 0],
  lastLetter: 0,
}

/**
 * A task's rows as the one who holds its fence knows them: it judges changes, says what is to be written for them, and takes
 * them back when that failed. It reads and writes nothing itself.
 */
export class Ledger {
  readonly task: string
  head: LedgerHead
  readonly blobs: Map<number, BlobRow>
  readonly batches: Map<string, BatchRow>
  private writes: Writes = noWrites()
  private undo: (() => void)[] = []

  constructor(task: string, head: LedgerHead, blobs: readonly BlobRow[], batches: readonly BatchRow[]) {
    this.task = task
    this.head = head
    this.blobs = new Map(blobs.map((row) => [row.id, row]))
    this.batches = new Map(batches.map((row) => [row.name, row]))
  }

  /** Begins a group of changes that are written together. */
  begin(): void {
    const before = this.head
    this.writes = noWrites()
    // Numbers that were drawn meanwhile, for pieces that are stored ahead, stay drawn.
    this.undo = [() => (this.head = { ...before, next: this.head.next })]
  }

  /** What is to be written for the group. */
  end(): Writes {
    if (this.undo.length > 1) this.head = { ...this.head, commits: this.head.commits + 1 }
    return this.writes
  }

  /** Whether any change of the group was applied. */
  get changed(): boolean {
    return this.undo.length > 1
  }

  /** Takes the group back: it was not written. */
  rollBack(): void {
    for (const step of this.undo.reverse()) step()
    this.undo = []
  }

  /** Numbers that are not given again, for pieces that are stored ahead. */
  reserve(count: number): number {
    const first = this.head.next
    this.head = { ...this.head, next: first + count }
    return first
  }

  /** @param numbers those of its dead letters */
  apply(change: PostedChange, numbers: readonly number[]): Judged {
    const why = refusal({ epoch: this.head.epoch, blobs: this.blobs, batches: this.batches }, change)
    if (why !== undefined) return { kind: 'refused', why }
    this.undo.push(() => undefined)
    for (const slot of change.dropSlots ?? []) {
      for (const row of [...this.blobs.values()]) if (row.slot === slot) this.dropBlob(row)
    }
    for (const [from, to] of Object.entries(change.renameSlots ?? {})) {
      for (const row of [...this.blobs.values()]) if (row.slot === from) this.putBlob({ ...row, slot: to })
    }
    const compacted = (change.compactions ?? []).map((compaction) => this.compact(compaction))
    const blobs = (change.blobs ?? []).map(({ slot, format, bytes }) => {
      const id = this.reserve(1)
      this.putBlob({ id, crc: -1, slot, format, order: id, content: this.content(bytes) })
      return id
    })
    for (const batch of change.staged ?? []) this.stage(batch)
    for (const lane of change.lanes ?? []) this.lane(lane)
    for (const [at, letter] of (change.deadLetters ?? []).entries()) {
      const id = numbers[at]!
      const text = letterText({ ...letter, task: this.task })
      const crc = rowSum('letters', id, text, letter.bytes)
      this.writes.letters.push({ id, text, crc, bytes: letter.bytes })
      this.head = { ...this.head, letters: tallied(this.head.letters, 1, crc), lastLetter: id }
    }
    if (change.facts !== undefined) this.head = { ...this.head, facts: change.facts }
    if (change.epoch !== undefined) this.head = { ...this.head, epoch: change.epoch }
    return { kind: 'applied', blobs, compacted }
  }

  private compact({ slot, format, replaces, bytes, installed }: Compaction & { readonly installed?: Content }): number {
    const { order } = this.blobs.get(replaces[0]!)!
    for (const id of replaces) this.dropBlob(this.blobs.get(id)!)
    if (bytes === undefined && installed === undefined) return 0
    const id = this.reserve(1)
    this.putBlob({ id, crc: -1, slot, format, order, content: installed ?? this.content(bytes!) })
    return id
  }

  private lane({ sink, remove = [], receipt, replace, group, ungroup, attempts = [] }: LaneChange): void {
    const { batches } = this
    const order = replace && batches.get(replace.of)!.order
    for (const row of ungroup === undefined ? [] : [...batches.values()]) {
      if (row.sink !== sink || row.group !== ungroup) continue
      const { group: _, ...alone } = row
      this.putBatch(alone)
    }
    for (const name of group?.members ?? []) this.putBatch({ ...batches.get(name)!, group: group!.name })
    for (const name of attempts) {
      const row = batches.get(name)!
      this.putBatch({ ...row, attempts: row.attempts + 1 })
    }
    for (const name of replace ? new Set([...remove, replace.of]) : remove) this.dropBatch(batches.get(name)!)
    if (replace) this.stage(replace.by, order)
    if (receipt !== undefined) this.head = { ...this.head, receipts: { ...this.head.receipts, [sink]: receipt } }
  }

  private stage({ body, ...batch }: StagedBatch, order?: number): void {
    const id = this.reserve(1)
    this.putBatch({ ...batch, id, crc: -1, order: order ?? id, attempts: 0, content: this.content(body) })
  }

  private putBlob(row: BlobRow): void {
    const before = this.blobs.get(row.id)
    const text = blobText(row)
    row.crc = rowSum('blobs', row.id, text)
    this.head = { ...this.head, blobs: tallied(tallied(this.head.blobs, -1, before?.crc), 1, row.crc) }
    this.writes.blobs.set(row.id, `${row.crc} ${text}`)
    this.blobs.set(row.id, row)
    this.undo.push(() => (before ? this.blobs.set(row.id, before) : this.blobs.delete(row.id)))
  }

  private dropBlob(row: BlobRow): void {
    this.head = { ...this.head, blobs: tallied(this.head.blobs, -1, row.crc) }
    this.writes.blobs.set(row.id, null)
    this.blobs.delete(row.id)
    this.undo.push(() => this.blobs.set(row.id, row))
    this.free(row.content)
  }

  private putBatch(row: BatchRow): void {
    const before = this.batches.get(row.name)
    const text = batchText(row)
    row.crc = rowSum('batches', row.id, text)
    this.head = { ...this.head, batches: tallied(tallied(this.head.batches, -1, before?.crc), 1, row.crc) }
    this.writes.batches.set(row.id, `${row.crc} ${text}`)
    this.batches.set(row.name, row)
    this.undo.push(() => (before ? this.batches.set(row.name, before) : this.batches.delete(row.name)))
  }

  private dropBatch(row: BatchRow): void {
    this.head = { ...this.head, batches: tallied(this.head.batches, -1, row.crc) }
    this.writes.batches.set(row.id, null)
    this.batches.delete(row.name)
    this.undo.push(() => this.batches.set(row.name, row))
    this.free(row.content)
  }

  private content(bytes: Uint8Array): Content {
    const pieces = Math.ceil(bytes.length / PIECE_BYTES)
    const first = this.reserve(pieces)
    for (let n = 0; n < pieces; n++)
      this.writes.pieces.set(first + n, bytes.subarray(n * PIECE_BYTES, (n + 1) * PIECE_BYTES))
    return { first, pieces, size: bytes.length, sum: crc32(bytes) }
  }

  private free({ first, pieces }: Content): void {
    for (let piece = first; piece < first + pieces; piece++) {
      if (!this.writes.pieces.delete(piece)) this.writes.freed.push(piece)
    }
  }
}

function noWrites(): Writes {
  return { letters: [], pieces: new Map(), blobs: new Map(), batches: new Map(), freed: [] }
}

/** A tally with a row taken in or out; of a row that was not there, as it was. */
function tallied([count, sum]: Tally, change: 1 | -1, crc: number | undefined): Tally {
  const into: Tally = [count, sum]
  if (crc !== undefined) tally(into, change, crc)
  return into
}
