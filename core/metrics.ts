import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** A family of counters, gauges or histograms by label; `labels` binds one, to be counted on without a look-up. */
export interface Metrics {
  readonly registry: Registry
  counter<L extends string>(
    name: string,
    help: string,
    labels?: readonly L[],
  ): (values?: Record<L, string>) => { add(n: number): void }
  gauge<L extends string>(
    name: string,
    help: string,
    labels?: readonly L[],
  ): (values?: Record<L, string>) => { set(value: number): void }
  histogram<L extends string>(
    name: string,
    help: string,
    buckets: readonly number[],
    labels?: readonly L[],
  ): (values?: Record<L, string>) => { observe(value: number): void }
}

/** One registry of Millrace's own, so that several workers in a process do not collide. */
export function createMetrics(): Metrics {
  const registry = new Registry()
  const families = new Map<string, unknown>()
  const family = <F>(name: string, make: () => F): F => {
    const known = families.get(name) as F | undefined
    if (known) return known
    const made = make()
    families.set(name, made)
    return made
  }
  return {
    registry,
    counter(name, help, labels = []) {
      const counter = family(name, () => new Counter({ name, help, labelNames: [...labels], registers: [registry] }))
      return (values) => {
        const child = values ? counter.labels(values) : counter
        return { add: (n) => child.inc(n) }
      }
    },
    gauge(name, help, labels = []) {
      const gauge = family(name, () => new Gauge({ name, help, labelNames: [...labels], registers: [registry] }))
      return (values) => {
        const child = values ? gauge.labels(values) : gauge
        return { set: (value) => child.set(value) }
      }
    },
    histogram(name, help, buckets, labels = []) {
      const histogram = family(
        name,
        () => new Histogram({ name, help, buckets: [...buckets], labelNames: [...labels], registers: [registry] }),
      )
      return (values) => {
        const child = values ? histogram.labels(values) : histogram
        return { observe: (value) => child.observe(value) }
      }
    },
  }
}
