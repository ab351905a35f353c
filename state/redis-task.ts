import { MillraceError } from '../core/errors.ts'
import type { CommitResult } from '../core/store.ts'
import type { RedisClient } from '../redis/connection.ts'
import { runScript } from '../redis/script.ts'
import type { Judged, Ledger, Writes } from './ledger.ts'
import type { PostedChange } from './messages.ts'
import { type Asking, storeError } from './redis-asking.ts'
import { COMMIT, headRow, KEY, type TaskKeys } from './redis-layout.ts'
import { PIECE_BYTES } from './rows.ts'

/** The most changes, and bytes unless one change has more, that go together. */
const GROUP_CHANGES = 1_000
const GROUP_BYTES = 16 * PIECE_BYTES

/** What one opening of a task needs of its store. */
export interface RedisTaskHost {
  readonly place: string
  readonly asking: Asking
  /** Draws numbers for dead letters, larger than `floor`; the first of them. */
  draw(count: number, floor: number): Promise<number>
  /** A name that no other commit has. */
  token(): string
  /** Waits until what the client has written is as durable as was asked for; undefined when that is the server's affair. */
  readonly durable: ((client: RedisClient) => Promise<void>) | undefined
  /** An epoch was committed. */
  epoch(task: string, epoch: number): void
}

interface Waiting {
  readonly change: PostedChange
  readonly size: number
  readonly settle: (result: CommitResult) => void
}

/** One opening of a task: its changes go to Redis in their order, those that wait together in one script. */
export class RedisTask {
  readonly ledger: Ledger
  readonly fence: number
  private readonly host: RedisTaskHost
  private readonly keys: TaskKeys
  private waiting: Waiting[] = []
  private running: Promise<void> | undefined
  /** Why nothing can be built upon any more. */
  private over: Exclude<CommitResult, { kind: 'committed' }> | undefined

  constructor(host: RedisTaskHost, keys: TaskKeys, ledger: Ledger, fence: number) {
    this.host = host
    this.keys = keys
    this.ledger = ledger
    this.fence = fence
  }

  commit(change: PostedChange, size: number): Promise<CommitResult> {
    return new Promise((settle) => {
      this.waiting.push({ change, size, settle })
      this.running ??= this.run()
    })
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.running
  }

  private async run(): Promise<void> {
    // What is asked for in the same turn goes together.
    await Promise.resolve()
    while (this.waiting.length > 0) {
      const group = this.take()
      try {
        await this.write(group)
      } catch (error) {
        const failure =
          error instanceof MillraceError ? error : new MillraceError('INTERNAL', String(error), { cause: error })
        for (const { settle } of group) settle({ kind: 'failed', error: failure })
      }
    }
    this.running = undefined
  }

  private take(): Waiting[] {
    let size = 0
    let count = 0
    for (const one of this.waiting) {
      if (count === GROUP_CHANGES || (count > 0 && size + one.size > GROUP_BYTES)) break
      size += one.size
      count += 1
    }
    return this.waiting.splice(0, count)
  }

  private async write(group: readonly Waiting[]): Promise<void> {
    if (this.over) return settleAll(group, this.over)
    const { host, ledger } = this
    const letters = group.reduce((sum, { change }) => sum + (change.deadLetters?.length ?? 0), 0)
    let number = letters === 0 ? 0 : await host.draw(letters, ledger.head.lastLetter)
    ledger.begin()
    const judged = group.map(({ change }) => {
      const numbers = (change.deadLetters ?? []).map(() => number++)
      return ledger.apply(change, numbers)
    })
    if (!ledger.changed) return settleEach(group, judged, ledger.task)
    const commits = ledger.head.commits
    const writes = ledger.end()
    const begun = group.some(({ change }, n) => change.epoch !== undefined && judged[n]!.kind === 'applied')
    const args = [
      this.fence,
      commits,
      host.token(),
      host.durable ? 1 : 0,
      headRow(ledger.task, ledger.head),
      group.some(({ change }) => change.facts !== undefined) ? (ledger.head.facts ?? '') : '',
      begun ? 1 : 0,
      ...operations(writes),
    ]
    const { task, blobs, batches, letters: stream, pieces } = this.keys
    const answer = await host.asking.ask(async (client) => {
      const said = await runScript(client, COMMIT, [task, blobs, batches, stream, pieces], args)
      if (said === 'committed') await host.durable?.(client)
      return said
    })
    if (answer.kind === 'answered' && answer.value === 'committed') {
      if (begun) host.epoch(ledger.task, ledger.head.epoch)
      return settleEach(group, judged, ledger.task)
    }
    if (answer.kind === 'answered') {
      this.over =
        answer.value === 'fenced' ? { kind: 'fenced' } : { kind: 'unknown', reason: behind(host.place, commits) }
      return settleAll(group, this.over)
    }
    if (answer.kind === 'silent' && answer.doubt) {
      this.over = { kind: 'unknown', reason: `the state store ${host.place}: ${answer.failure.reason}` }
      return settleAll(group, this.over)
    }
    ledger.rollBack()
    // What cannot be stored must not take what was grouped with it along.
    if (answer.kind === 'refused' && group.length > 1) {
      for (const one of group) await this.write([one])
      return
    }
    settleAll(group, { kind: 'failed', error: storeError(host.place, answer.failure) })
  }
}

function behind(place: string, commits: number): string {
  return `the state store ${place} no longer has commit ${commits}, which it had answered for`
}

function settleAll(group: readonly Waiting[], result: CommitResult): void {
  for (const { settle } of group) settle(result)
}

function settleEach(group: readonly Waiting[], judged: readonly Judged[], task: string): void {
  for (const [n, { settle }] of group.entries()) {
    const one = judged[n]!
    if (one.kind === 'applied') settle({ kind: 'committed', blobs: one.blobs, compacted: one.compacted })
    else settle({ kind: 'failed', error: new MillraceError('INTERNAL', `${task}: the change was refused: ${one.why}`) })
  }
}

/**
 * The operations of COMMIT. What adds stands first: a Redis that is full refuses a script at its first write only. What only
 * frees, as a delivery does, is not refused.
 */
function operations({ letters, pieces, blobs, batches, freed }: Writes): (string | number | Buffer)[] {
  const args: (string | number | Buffer)[] = []
  const add = (command: string, key: string, values: readonly (string | number | Buffer)[]) => {
    if (values.length > 0) args.push(command, key, values.length)
    for (const value of values) args.push(value)
  }
  for (const { id, text, crc, bytes } of letters)
    add('XADD', KEY.letters, [`${id}-0`, 'row', `${crc} ${text}`, 'bytes', bufferOf(bytes)])
  add(
    'HSET',
    KEY.pieces,
    [...pieces].flatMap(([number, bytes]) => [number, bufferOf(bytes)]),
  )
  const rows = [
    [KEY.blobs, blobs],
    [KEY.batches, batches],
  ] as const
  for (const [key, changed] of rows)
    add(
      'HSET',
      key,
      [...changed].flatMap(([id, row]) => (row === null ? [] : [id, row])),
    )
  for (const [key, changed] of rows)
    add(
      'HDEL',
      key,
      [...changed].flatMap(([id, row]) => (row === null ? [id] : [])),
    )
  add('HDEL', KEY.pieces, freed)
  return args
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
