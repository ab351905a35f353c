import { createExpiringSet } from './expiring-set.ts'
import type {
  ExpiringSet,
  Journal,
  StateClock,
  StateDeclaration,
  StateStructure,
  Table,
  Timer,
  Timers,
} from './state.ts'
import { createTable } from './table.ts'
import { createTimers } from './timers.ts'

export interface StateDeps {
  clock: StateClock
  /** The task's one journal. */
  journal: Journal
  /** The store's: fingerprints are keyed with it. */
  secret: Uint8Array
  /** What messages call it: the operator's name and its own. @default the kind of state */
  name?: string | undefined
  /** How many bytes of a table's values stay in memory, and the local file that the rest goes to: one a table. @default all stays in memory */
  cache?: { readonly path: string; readonly bytes: number } | undefined
}

/** What a task does with any piece of state. */
export interface TaskState extends StateStructure {
  /** Bytes that what is alive would take in one blob, about: tells `planCompaction` what could be gained. */
  readonly live: number
  /** Frees what is held outside memory; nothing may be read or written from here on. */
  close(): void
}

/** An operator's timers, with what the task needs to fire them. */
export interface TaskTimers extends Timers, TaskState {
  readonly size: number
  /** The timer that falls due first. */
  peek(): Timer | undefined
  /** Removes the timer that falls due first, and gives it. There must be one. */
  take(): Timer
}

export function createState(
  declaration: StateDeclaration & { kind: 'expiring-set' },
  deps: StateDeps,
): ExpiringSet & TaskState
export function createState(declaration: StateDeclaration & { kind: 'table' }, deps: StateDeps): Table<any> & TaskState
export function createState(declaration: StateDeclaration & { kind: 'timers' }, deps: StateDeps): TaskTimers
export function createState(declaration: StateDeclaration, deps: StateDeps): TaskState
/** Makes the piece of state that an operator declares. */
export function createState(
  declaration: StateDeclaration,
  { name, clock, journal, secret, cache }: StateDeps,
): TaskState {
  switch (declaration.kind) {
    case 'expiring-set':
      return createExpiringSet({ within: declaration.within, clock, journal, secret })
    case 'table':
      return createTable({
        name,
        ttl: declaration.ttl,
        revive: declaration.revive,
        clock,
        journal,
        secret,
        memory: cache?.bytes,
        spill: cache?.path,
      })
    case 'timers':
      return createTimers({ journal, secret })
  }
}
