import { type Breaker, createBreaker } from './breaker.ts'
import { messageOf } from './errors.ts'
import { QuantileSketch } from './quantiles.ts'
import { RecentSketch } from './recent.ts'
import { deadline, type Runtime } from './runtime.ts'
import type { Delivery, Guarantee, OpenSink, Outcome, Sink } from './sink.ts'

/** Milliseconds that one attempt may take. */
const ATTEMPT = 60_000
const STOPPING: Outcome = { kind: 'notSent', reason: 'the worker is stopping' }

/**
 * A sink in a worker: its connection, breaker, pace and concurrency, shared by the lanes of all tasks, so that eight
 * tasks do not have eight quotas.
 */
export class SinkHost {
  readonly name: string
  readonly sink: Sink<any>
  readonly open: OpenSink<any>
  readonly guarantee: Guarantee
  readonly breaker: Breaker
  readonly freshness = new QuantileSketch()
  readonly latency = new QuantileSketch()
  readonly recent: { readonly freshness: RecentSketch; readonly latency: RecentSketch }
  rows = 0
  batches = 0
  rejected = 0
  readonly outcomes: Record<Outcome['kind'], number> = { applied: 0, rejected: 0, notSent: 0, unknown: 0 }
  problem: string | null = null
  private readonly runtime: Runtime
  private active = 0
  private readonly concurrency: number
  private readonly waiting: (() => void)[] = []
  private lastSent = Number.NEGATIVE_INFINITY

  constructor(name: string, sink: Sink<any>, open: OpenSink<any>, runtime: Runtime, concurrency = 4) {
    this.name = name
    this.sink = sink
    this.open = open
    this.guarantee = open.guarantee ?? sink.guarantee
    this.runtime = runtime
    this.concurrency = concurrency
    this.breaker = createBreaker(runtime)
    this.recent = { freshness: new RecentSketch(runtime), latency: new RecentSketch(runtime) }
  }

  /**
   * One attempt. It never throws; what a sink throws is `unknown`.
   *
   * @param closing what has not been sent when it aborts is not sent any more
   * @param signal what has been sent is given up when it aborts
   */
  async deliver(delivery: Delivery, closing: AbortSignal, signal: AbortSignal): Promise<Outcome> {
    // asked again by each that was woken, and taken at once: several begin in one turn
    while (this.active >= this.concurrency && !closing.aborted) await this.place(closing)
    if (closing.aborted) {
      // it may have been woken for a place that it no longer needs
      if (this.active < this.concurrency) this.waiting.shift()?.()
      return STOPPING
    }
    this.active++
    try {
      const wait = this.breaker.wait()
      if (wait > 0) return { kind: 'notSent', reason: this.problem ?? 'the breaker is open', retryAfter: wait }
      const pause = this.lastSent + (this.open.pace ?? 0) - this.runtime.elapsed()
      if (pause > 0) await this.runtime.sleep(pause, closing)
      if (closing.aborted) return STOPPING
      this.lastSent = this.runtime.elapsed()
      const limit = deadline(this.runtime, ATTEMPT, signal)
      let outcome: Outcome
      try {
        outcome = await this.open.deliver(delivery, limit.signal)
      } catch (error) {
        outcome = { kind: 'unknown', reason: messageOf(error) }
      } finally {
        limit.clear()
      }
      this.outcomes[outcome.kind]++
      if (outcome.kind === 'applied') {
        this.breaker.succeeded()
        this.problem = null
      } else {
        if (outcome.kind !== 'rejected') this.breaker.failed()
        this.problem = outcome.reason
      }
      return outcome
    } finally {
      this.active--
      this.waiting.shift()?.()
    }
  }

  /** Waits until an attempt has ended, or nothing more is to be sent. */
  private async place(closing: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const stop = () => resolve()
    this.waiting.push(resolve)
    closing.addEventListener('abort', stop, { once: true })
    await promise
    closing.removeEventListener('abort', stop)
    const at = this.waiting.indexOf(resolve)
    if (at >= 0) this.waiting.splice(at, 1)
  }
}
