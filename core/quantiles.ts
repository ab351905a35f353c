import type { Quantiles } from './status.ts'

/**
 * Quantiles of positive numbers in constant memory: logarithmic buckets, 2 % wide, so an answer is within 1 % of a
 * value that was seen.
 */
export class QuantileSketch {
  private readonly counts = new Map<number, number>()
  private total = 0
  /** What was said last, until something is added: a status is asked for far more often than most sinks answer. */
  private said: Quantiles | undefined

  add(value: number, times = 1): void {
    const bucket = value <= 1 ? 0 : Math.round(Math.log(value) / LOG_WIDTH)
    this.counts.set(bucket, (this.counts.get(bucket) ?? 0) + times)
    this.total += times
    this.said = undefined
  }

  addAll(other: QuantileSketch): void {
    for (const [bucket, count] of other.counts) this.counts.set(bucket, (this.counts.get(bucket) ?? 0) + count)
    this.total += other.total
    this.said = undefined
  }

  get empty(): boolean {
    return this.total === 0
  }

  at(quantile: number): number | null {
    if (this.total === 0) return null
    let left = quantile * this.total
    const buckets = [...this.counts].sort(([a], [b]) => a - b)
    for (const [bucket, count] of buckets) {
      left -= count
      if (left <= 0) return Math.round(Math.exp(bucket * LOG_WIDTH))
    }
    return Math.round(Math.exp(buckets.at(-1)![0] * LOG_WIDTH))
  }

  get quantiles(): Quantiles {
    this.said ??= { p50: this.at(0.5), p99: this.at(0.99) }
    return this.said
  }
}

const LOG_WIDTH = Math.log(1.02)
