import type { Runtime } from './runtime.ts'

/** What stands between a worker and a sink's system, so that one that fails is asked seldom. */
export type BreakerState =
  | { readonly kind: 'closed'; readonly failures: number }
  | { readonly kind: 'open'; readonly until: number; readonly failures: number }

export interface Breaker {
  /** Milliseconds to wait before the next call; 0 when it may be made now. After `open` has passed, one call probes. */
  wait(): number
  succeeded(): void
  failed(): void
  readonly state: BreakerState
}

export interface BreakerOptions {
  /** Failures in a row that open it. @default 5 */
  failures?: number
  /** Milliseconds of the first opening; each further one is twice as long, up to 30 s. @default 1000 */
  reset?: number
}

/** A circuit breaker on the runtime's clock. */
export function createBreaker(runtime: Runtime, { failures: bound = 5, reset = 1_000 }: BreakerOptions = {}): Breaker {
  const breaker = {
    state: { kind: 'closed', failures: 0 } as BreakerState,
    wait: () => (breaker.state.kind === 'open' ? Math.max(0, breaker.state.until - runtime.elapsed()) : 0),
    succeeded() {
      breaker.state = { kind: 'closed', failures: 0 }
    },
    failed() {
      const failures = breaker.state.failures + 1
      if (failures < bound) breaker.state = { kind: 'closed', failures }
      else
        breaker.state = {
          kind: 'open',
          failures,
          until: runtime.elapsed() + Math.min(30_000, reset * 2 ** Math.min(10, failures - bound)),
        }
    },
  }
  return breaker
}
