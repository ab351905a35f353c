import { MillraceError } from './errors.ts'
import type { Runtime } from './runtime.ts'
import type { RawRecord, Reader } from './source.ts'

/** Records and bytes of one read, and how many reads are kept ready. */
const READ = { records: 10_000, bytes: 1024 * 1024 }
const KEPT = 3

/** The bounded queue between a reader and a task. When it is full, nobody reads: that is the back-pressure. */
export class Intake {
  /** The reader has said that there is nothing more for now. */
  atHead = false
  /**
   * Until when the reader is known to have had nothing more: when the question was put. What has come since then, while the
   * process was stopped, say, is not known: time must not go on beyond it. Of the wall clock, which may be set back, and the
   * one that only moves forward, which may stand still while the machine sleeps, the one that says less counts.
   */
  get headAt(): number {
    return Math.min(this.asked.now, this.runtime.now() - (this.runtime.elapsed() - this.asked.elapsed))
  }
  /** The reader has ended, and all that it gave has been taken. */
  get ended(): boolean {
    return this.finished && this.chunks.length === 0
  }
  private readonly reader: Reader
  private readonly runtime: Runtime
  private readonly signal: AbortSignal
  private readonly arrived: () => void
  private readonly chunks: { records: readonly RawRecord[]; at: number; stamp: number }[] = []
  private finished = false
  private room: (() => void) | undefined
  private waiting: AbortController | undefined
  private asked = { now: Number.NEGATIVE_INFINITY, elapsed: 0 }

  constructor(reader: Reader, runtime: Runtime, signal: AbortSignal, arrived: () => void) {
    this.reader = reader
    this.runtime = runtime
    this.signal = signal
    this.arrived = arrived
  }

  /** The next record, which stays; undefined when none has arrived. */
  peek(): RawRecord | undefined {
    const chunk = this.chunks[0]
    return chunk?.records[chunk.at]
  }

  /** When the next record arrived. */
  get stamp(): number {
    return this.chunks[0]!.stamp
  }

  take(): void {
    const chunk = this.chunks[0]!
    if (++chunk.at < chunk.records.length) return
    this.chunks.shift()
    this.room?.()
  }

  /** Asks a reader that was at its head again, whose word is old. */
  confirm(): void {
    this.waiting?.abort('asked again')
  }

  /** Reads until the signal aborts or the source ends. */
  async run(): Promise<void> {
    let failures = 0
    this.signal.addEventListener('abort', () => this.room?.(), { once: true })
    while (!this.signal.aborted) {
      if (this.chunks.length >= KEPT) {
        const { promise, resolve } = Promise.withResolvers<void>()
        this.room = resolve
        await promise
        continue
      }
      let records: readonly RawRecord[] | null
      const asked = { now: this.runtime.now(), elapsed: this.runtime.elapsed() }
      try {
        records = await this.reader.read(READ)
        failures = 0
      } catch (error) {
        if (this.signal.aborted) return
        if (!(error instanceof MillraceError && error.retriable)) throw error
        // what cannot be read is not known to be at its head
        this.atHead = false
        await this.runtime.sleep(Math.min(30_000, 100 * 2 ** Math.min(failures++, 9)), this.signal)
        continue
      }
      if (records === null) {
        this.finished = true
        this.arrived()
        return
      }
      if (records.length === 0) {
        this.atHead = true
        this.asked = asked
        this.arrived()
        await this.more()
        this.atHead = false
        continue
      }
      this.atHead = false
      this.chunks.push({ records, at: 0, stamp: this.runtime.now() })
      this.arrived()
    }
  }

  /** Waits until there may be more, or the reader is to be asked again. */
  private async more(): Promise<void> {
    const waiting = new AbortController()
    const stop = () => waiting.abort('stopped')
    this.waiting = waiting
    this.signal.addEventListener('abort', stop, { once: true })
    if (this.signal.aborted) stop()
    await this.reader.more(waiting.signal)
    this.signal.removeEventListener('abort', stop)
    this.waiting = undefined
  }
}
