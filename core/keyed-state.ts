import { createExpiringSet } from './expiring-set.ts'
import type { Journal, StateClock, StateDeclaration, StateStructure } from './state.ts'
import { createTable } from './table.ts'
import { createTimers } from './timers.ts'

export type TaskState = StateStructure

/** What a piece of state is made with. */
export interface StateDependencies {
  readonly clock: StateClock
  readonly journal: Journal
  /** The store's secret: fingerprints are keyed with it. */
  readonly secret: Uint8Array
}

/** The piece of state that a declaration asks for. */
export function createState(declaration: StateDeclaration, { clock, journal, secret }: StateDependencies): TaskState {
  switch (declaration.kind) {
    case 'expiring-set':
      return createExpiringSet({ within: declaration.within, clock, journal, secret })
    case 'table':
      return createTable({ ttl: declaration.ttl, clock, journal, secret, ...(declaration.revive ? { revive: declaration.revive } : {}) })
    case 'timers':
      return createTimers({ journal })
  }
}
