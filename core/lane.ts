import { MillraceError } from './errors.ts'
import type { Logger } from './logger.ts'
import type { Runtime } from './runtime.ts'
import type { Delivery, Outcome, RowRejection } from './sink.ts'
import type { SinkHost } from './sink-host.ts'
import type { Change, CommitResult, DeadLetter, LaneChange, StagedBatch, Store, StoredBatch } from './store.ts'

/** A batch in a lane. Its body is kept in memory only while the lane's memory lasts; the store has it in any case. */
export interface LaneBatch extends StoredBatch {
  body: Uint8Array | undefined
  /** No attempt has been made, in any life. */
  fresh: boolean
  /** Event and arrival times of some of its rows, for freshness. */
  samples?: readonly { readonly time: number; readonly arrived: number }[]
}

/** What a lane needs of its task. */
export interface LaneHost {
  readonly task: string
  readonly store: Store
  readonly runtime: Runtime
  readonly logger: Logger
  /** Aborts when nothing more is to be sent: what is on its way may be answered for. */
  readonly closing: AbortSignal
  /** Aborts when what is on its way is given up. `closing` has aborted before. */
  readonly signal: AbortSignal
  /** Commits a change now. */
  commit(change: Omit<Change, 'task' | 'fence'>): Promise<CommitResult>
  /** Lets a change go with the next commit, whenever that is. */
  later(change: LaneChange, deadLetters: readonly DeadLetter[]): void
  /** So many rows became dead letters in a change of the lane's own. */
  setAside(rows: number): void
  /** The lane has room again, or is empty. */
  progressed(): void
  /** The task cannot go on. */
  failed(error: unknown): void
}

/** Bytes of bodies that one lane keeps in memory. */
const LANE_MEMORY = 32 * 1024 * 1024

/** The delivery queue of one task to one sink: it owns order and cursor, and tries until each batch is answered for. */
export class Lane {
  readonly output: string
  readonly sink: SinkHost
  bytes = 0
  state: 'ready' | 'retrying' | 'parked' = 'ready'
  private readonly host: LaneHost
  private readonly batches: LaneBatch[] = []
  private memory = 0
  private receipt: string | undefined
  private groups = 0
  private readonly life: string
  private wake: (() => void) | undefined

  constructor(
    host: LaneHost,
    output: string,
    sink: SinkHost,
    life: string,
    restored: readonly StoredBatch[],
    receipt: string | undefined,
  ) {
    this.host = host
    this.output = output
    this.sink = sink
    this.life = life
    this.receipt = receipt
    for (const batch of restored) {
      this.batches.push({ ...batch, body: undefined, fresh: false })
      this.bytes += batch.size
    }
  }

  get length(): number {
    return this.batches.length
  }

  get rows(): number {
    return this.batches.reduce((sum, batch) => sum + batch.rows, 0)
  }

  /** When the oldest batch was staged; infinity when there is none. */
  get oldest(): number {
    return this.batches[0]?.stagedAt ?? Number.POSITIVE_INFINITY
  }

  /** Counts a batch in that is on its way to the store. */
  expect(batch: StagedBatch): void {
    this.bytes += batch.body.length
  }

  /** Takes in a batch that was expected, and has been committed. */
  add(batch: StagedBatch, samples: LaneBatch['samples']): void {
    const { body, ...rest } = batch
    const kept = this.memory + body.length <= LANE_MEMORY
    if (kept) this.memory += body.length
    this.batches.push({
      ...rest,
      size: body.length,
      attempts: 0,
      body: kept ? body : undefined,
      fresh: true,
      ...(samples ? { samples } : {}),
    })
    this.wake?.()
  }

  /** Delivers until its host is closing. */
  async run(): Promise<void> {
    const { closing } = this.host
    closing.addEventListener('abort', () => this.wake?.(), { once: true })
    try {
      await this.sink.open.attach?.(this.host.task, this.receipt)
      while (!closing.aborted) {
        if (this.batches.length === 0) {
          await this.more()
          continue
        }
        await this.deliverHead()
        this.host.progressed()
      }
    } catch (error) {
      this.host.failed(error)
    }
  }

  private more(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.wake = resolve
    return promise
  }

  /** Sends the batch, or group, at the head until it is answered for. */
  private async deliverHead(): Promise<void> {
    const { host } = this
    const members = await this.takeGroup()
    if (!members) return
    const head = members[0]!
    const single = members.length === 1 && head.group === undefined
    const name = head.group ?? head.name
    const body = await this.bodyOf(members)
    const recorded = this.sink.guarantee !== 'idempotent'
    let attempt = head.attempts
    let afterUnknown = !members.every((batch) => batch.fresh)
    for (let failures = 0; !host.closing.aborted; failures++) {
      attempt++
      if (recorded) {
        const marked = await host.commit({
          lanes: [{ sink: this.output, attempts: members.map((batch) => batch.name) }],
        })
        if (marked.kind !== 'committed') return host.failed(notRecorded(marked, 'an attempt'))
      }
      for (const batch of members) batch.fresh = false
      const delivery: Delivery = {
        name,
        task: host.task,
        head: head.head,
        body,
        rows: members.reduce((sum, batch) => sum + batch.rows, 0),
        stagedAt: head.stagedAt,
        attempt,
        afterUnknown,
      }
      // what was recorded as attempted is in doubt, and had better be sent
      const outcome = await this.sink.deliver(delivery, recorded ? host.signal : host.closing, host.signal)
      if (outcome.kind === 'applied') return this.applied(members, outcome.receipt, outcome.rejected ?? [], body)
      if (outcome.kind === 'rejected' && outcome.retry === 'never') {
        if (single) return this.refused(head, outcome, body)
        return this.takeApart(name, members)
      }
      if (host.closing.aborted) return
      if (outcome.kind === 'unknown') afterUnknown = true
      this.state = 'retrying'
      host.logger.warn(
        { sink: this.output, batch: name, attempt, outcome: outcome.kind },
        `${this.output}: ${outcome.reason}`,
      )
      const backoff = Math.min(30_000, 100 * 2 ** Math.min(failures, 9)) * (0.5 + host.runtime.random() / 2)
      await host.runtime.sleep(Math.max(outcome.retryAfter ?? 0, backoff), host.closing)
    }
  }

  /** The batches that go with the head in one request: those it was recorded with, or never attempted ones behind it. */
  private async takeGroup(): Promise<LaneBatch[] | undefined> {
    const head = this.batches[0]!
    if (head.group !== undefined) return this.batches.filter((batch) => batch.group === head.group)
    const { group } = this.sink.open
    if (!group || !head.fresh) return [head]
    const members = [head]
    let rows = head.rows
    let size = head.size
    for (const batch of this.batches.slice(1)) {
      rows += batch.rows
      size += batch.size
      if (!batch.fresh || batch.head !== head.head || rows > group.rows || size > group.bytes) break
      members.push(batch)
    }
    if (members.length === 1) return members
    const name = `${this.life}/${this.host.task}/group/${this.output}/${this.groups++}`
    if (!group.rowwise) {
      const result = await this.host.commit({
        lanes: [{ sink: this.output, group: { name, members: members.map((batch) => batch.name) } }],
      })
      if (result.kind !== 'committed') {
        this.host.failed(notRecorded(result, 'a group'))
        return undefined
      }
    }
    for (const batch of members) (batch as { group?: string }).group = name
    return members
  }

  /** Nothing of a group took effect: its batches go on one by one, after a restart, too. */
  private async takeApart(name: string, members: readonly LaneBatch[]): Promise<void> {
    if (!this.sink.open.group?.rowwise) {
      const result = await this.host.commit({ lanes: [{ sink: this.output, ungroup: name }] })
      if (result.kind !== 'committed') return this.host.failed(notRecorded(result, 'the end of a group'))
    }
    for (const batch of members) delete (batch as { group?: string }).group
  }

  private async bodyOf(members: readonly LaneBatch[]): Promise<Uint8Array> {
    const bodies = await Promise.all(
      members.map((batch) => batch.body ?? this.host.store.body(this.host.task, batch.name)),
    )
    return bodies.length === 1 ? bodies[0]! : Buffer.concat(bodies)
  }

  private applied(
    members: readonly LaneBatch[],
    receipt: string | undefined,
    rejected: readonly RowRejection[],
    body: Uint8Array,
  ): void {
    const { sink, host } = this
    const rows = members.reduce((sum, batch) => sum + batch.rows, 0)
    sink.rows += rows - rejected.length
    sink.batches += members.length
    sink.rejected += rejected.length
    const now = host.runtime.now()
    for (const batch of members) {
      const samples = batch.samples ?? [
        { time: batch.oldest, arrived: batch.arrived },
        { time: batch.newest, arrived: batch.arrived },
      ]
      for (const { time, arrived } of samples) {
        const rows = batch.rows / samples.length
        for (const seen of [sink, sink.recent]) {
          seen.freshness.add(Math.max(0, now - time), rows)
          seen.latency.add(Math.max(0, now - arrived), rows)
        }
      }
    }
    const letters = rejected.length === 0 ? [] : rowLetters(members[0]!, body, rejected, now)
    this.removeHead(members)
    if (receipt !== undefined) this.receipt = receipt
    host.later(
      { sink: this.output, remove: members.map((batch) => batch.name), ...(receipt === undefined ? {} : { receipt }) },
      letters,
    )
  }

  /** The system will never take the batch as it is: the rows it named are set aside, and the rest goes on without them. */
  private async refused(
    batch: LaneBatch,
    outcome: Outcome & { kind: 'rejected'; retry: 'never' },
    body: Uint8Array,
  ): Promise<void> {
    const rejections = outcome.rows ?? Array.from({ length: batch.rows }, (_, row) => ({ row, reason: outcome.reason }))
    const letters = rowLetters(batch, body, rejections, this.host.runtime.now())
    this.sink.rejected += rejections.length
    const bad = new Set(rejections.map(({ row }) => row))
    const good = lines(body).filter((_, row) => !bad.has(row))
    let change: LaneChange = { sink: this.output, remove: [batch.name] }
    let rest: LaneBatch | undefined
    if (good.length > 0 && bad.size > 0) {
      const kept = Buffer.concat(good)
      const {
        group: _group,
        body: _body,
        samples: _samples,
        fresh: _fresh,
        size: _size,
        attempts: _attempts,
        ...stored
      } = batch
      const by: StagedBatch = { ...stored, name: `${batch.name}r`, rows: good.length, body: kept }
      change = { ...change, replace: { of: batch.name, by } }
      rest = { ...stored, name: by.name, rows: good.length, body: kept, size: kept.length, attempts: 0, fresh: true }
    }
    const result = await this.host.commit({ lanes: [change], deadLetters: letters })
    if (result.kind !== 'committed') return this.host.failed(notRecorded(result, 'a rejection'))
    this.host.setAside(letters.length)
    this.removeHead([batch])
    if (!rest) return
    this.batches.unshift(rest)
    this.bytes += rest.size
    this.memory += rest.size
  }

  private removeHead(members: readonly LaneBatch[]): void {
    this.batches.splice(0, members.length)
    for (const batch of members) {
      this.bytes -= batch.size
      if (batch.body) this.memory -= batch.size
    }
    this.state = 'ready'
  }
}

/** What keeps a lane from going on. */
export function notRecorded(result: Exclude<CommitResult, { kind: 'committed' }>, what: string): MillraceError {
  if (result.kind === 'failed') return result.error
  if (result.kind === 'fenced')
    return new MillraceError(
      'FENCED',
      `${what} could not be recorded: another worker has opened this task; this one stops`,
    )
  return new MillraceError(
    'STATE_FAILED',
    `it is not known whether ${what} was recorded (${result.reason}); start again: the store knows`,
  )
}

/** Rows of a batch as dead letters: those named, or all of them for one reason. */
export function rowLetters(
  batch: Pick<StagedBatch, 'name' | 'sink'>,
  body: Uint8Array,
  rejections: readonly RowRejection[] | string,
  at: number,
): DeadLetter[] {
  const rows = lines(body)
  const named = typeof rejections === 'string' ? rows.map((_, row) => ({ row, reason: rejections })) : rejections
  return named.map(({ row, reason }) => ({
    source: batch.name,
    partition: -1,
    position: row,
    at,
    where: batch.sink,
    code: 'SINK_REJECTED',
    reason,
    bytes: rows[row] ?? new Uint8Array(0),
  }))
}

/** The rows of a body whose format is a line a row. */
function lines(body: Uint8Array): Buffer[] {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.length)
  const rows: Buffer[] = []
  for (let from = 0; from < buffer.length; ) {
    const end = buffer.indexOf(10, from)
    const to = end < 0 ? buffer.length : end + 1
    rows.push(buffer.subarray(from, to))
    from = to
  }
  return rows
}
