import { QuantileSketch } from './quantiles.ts'
import type { Runtime } from './runtime.ts'
import type { Quantiles } from './status.ts'

/** Milliseconds that answers are of, at least; at most twice as many. */
const SPAN = 60_000

/** Quantiles of the last minute or two, for who watches: those of a whole run hardly move any more after a day. */
export class RecentSketch {
  private readonly runtime: Runtime
  private now = new QuantileSketch()
  private before = new QuantileSketch()
  private since: number

  constructor(runtime: Runtime) {
    this.runtime = runtime
    this.since = runtime.elapsed()
  }

  add(value: number, times?: number): void {
    this.turn()
    this.now.add(value, times)
  }

  /** Null when nothing came of late. */
  get quantiles(): Quantiles {
    this.turn()
    if (this.before.empty) return this.now.quantiles
    if (this.now.empty) return this.before.quantiles
    const both = new QuantileSketch()
    both.addAll(this.before)
    both.addAll(this.now)
    return both.quantiles
  }

  private turn(): void {
    const past = this.runtime.elapsed() - this.since
    if (past < SPAN) return
    this.before = past < 2 * SPAN ? this.now : new QuantileSketch()
    this.now = new QuantileSketch()
    this.since += past - (past % SPAN)
  }
}
