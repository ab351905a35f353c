import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { MillraceError, messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/logger.ts'
import type { Runtime } from '../../core/runtime.ts'
import { thread } from '../../embedded/thread.ts'
import type { CapturedMessage } from './message.ts'
import type { Capture, Captured } from './outbox-thread.ts'

export interface OutboxOptions {
  dataDir: string
  runtime: Runtime
  logger: Logger
}

/** The folder that takes the messages which would have gone to people. */
export interface Outbox {
  readonly folder: string
  /**
   * Keeps a batch of messages, lines of JSON. A message whose send key is there already is not kept again.
   *
   * @throws ThreadError when it could not be kept, or not all of it: capture the batch again
   */
  capture(batch: { pipeline: string; sink: string; body: Uint8Array }): Promise<void>
  /** Brings the listing up to date, and ends. */
  close(): Promise<void>
}

/** The listing is not made anew more often than this. */
const LISTING_EVERY = 1_000

/**
 * Opens the outbox `<dataDir>/outbox`, on a thread of its own. A message is two files,
 * `<sink>/<yyyy-mm-dd>/<HHMMSS>-<short key>.json` and `.html`, named for its event time in UTC and its send key; each
 * appears whole or not at all. `index.html` lists the newest 500. `outbox.db` knows which send keys were kept: it is
 * written durably, before the files are.
 *
 * @throws MillraceError SINK_FAILED when it cannot be opened
 */
export async function openOutbox({ dataDir, runtime, logger }: OutboxOptions): Promise<Outbox> {
  const folder = join(dataDir, 'outbox')
  const module = new URL(import.meta.url.endsWith('.ts') ? './outbox-thread.ts' : './outbox-thread.js', import.meta.url)
  const worker = thread(module, { folder })
  await worker.call('open').catch(async (cause) => {
    await worker.close()
    throw new MillraceError(
      'SINK_FAILED',
      `the outbox ${folder} cannot be opened (${messageOf(cause)}): see that this user can write there, or move it away`,
      { cause },
    )
  })
  const closing = new AbortController()
  let listed = Number.NEGATIVE_INFINITY
  let listing: Promise<void> | undefined

  const list = async () => {
    await runtime.sleep(Math.max(0, listed + LISTING_EVERY - runtime.elapsed()), closing.signal)
    listed = runtime.elapsed()
    listing = undefined
    await worker
      .call('list')
      .catch((error) => logger.warn({ problem: messageOf(error) }, 'the listing of the outbox could not be written'))
  }

  return {
    folder,
    async capture(batch) {
      const capture: Capture = { ...batch, now: runtime.now() }
      const { fresh, conflicts } = await worker.call<Captured>('capture', capture)
      for (const { key, kept } of conflicts) {
        logger.warn(
          { pipeline: batch.pipeline, sink: batch.sink, key, kept },
          'two different messages have one cause: the first was kept, the other was not',
        )
      }
      if (fresh > 0) listing ??= list()
    },
    async close() {
      closing.abort()
      await listing
      await worker.close()
    },
  }
}

/** A message as `readOutbox` gives it, with the place of its files. */
export interface OutboxMessage extends CapturedMessage {
  /** The path of the message's `.json`; its preview has the same with `.html`. */
  readonly file: string
}

/**
 * What is in the outbox of a data directory: how many messages, and the newest of them by the time of their cause. It
 * can be asked while a pipeline runs; where there is no outbox, there are no messages.
 */
export function readOutbox({
  dataDir,
  pipeline,
  sink,
  limit = 20,
}: {
  dataDir: string
  /** Only of this pipeline, or this output. @default all */
  pipeline?: string
  sink?: string
  /** @default 20 */
  limit?: number
}): { readonly total: number; readonly expired: number; readonly messages: readonly OutboxMessage[] } {
  const folder = join(dataDir, 'outbox')
  const path = join(folder, 'outbox.db')
  if (!existsSync(path)) return { total: 0, expired: 0, messages: [] }
  const db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
  try {
    const where = 'WHERE (:pipeline IS NULL OR pipeline = :pipeline) AND (:sink IS NULL OR sink = :sink)'
    const of = { pipeline: pipeline ?? null, sink: sink ?? null }
    const counts = db.prepare(`SELECT count(*) AS total, total(expired) AS expired FROM messages ${where}`).get(of)
    const newest = db.prepare(`SELECT path, message FROM messages ${where} ORDER BY time DESC, rowid DESC LIMIT :limit`)
    const messages = newest.all({ ...of, limit }).map((row): OutboxMessage => {
      return { ...(JSON.parse(row.message as string) as CapturedMessage), file: join(folder, `${row.path}.json`) }
    })
    return { total: counts!.total as number, expired: counts!.expired as number, messages }
  } finally {
    db.close()
  }
}
