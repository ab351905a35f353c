import type { WorkerStatus } from '../core/status.ts'

/** What a probe is told: whether it is so, and the reason. */
export interface Health {
  readonly ok: boolean
  readonly state: WorkerStatus['state']
  readonly problems: readonly string[]
}

/** Milliseconds that a worker may have work and do none of it before it is taken for stuck. */
const STUCK_AFTER = 5 * 60_000

/**
 * Whether the worker does its work: its sources and sinks are open, the state of the partitions that are its own is
 * loaded, and nothing has asked it to stop. A sink that is down
 * is told, and does not count: the worker waits for it as it should, and another one would do no better.
 */
export function readiness(status: WorkerStatus | undefined): Health {
  const state = status?.state ?? 'starting'
  const opening = openingOf(status)
  return { ok: state === 'running' && opening.length === 0, state, problems: [...opening, ...problemsOf(status)] }
}

/** Whether all is well: ready or ending well, and no sink needs a person. */
export function wellBeing(status: WorkerStatus | undefined): Health {
  const state = status?.state ?? 'starting'
  const working = state === 'running' || state === 'draining' || state === 'ended'
  const parked = Object.values(status?.sinks ?? {}).some((sink) => sink.state === 'parked')
  return { ok: working && !parked, state, problems: problemsOf(status) }
}

/** Looks at the worker, and tells whether a start anew would help. Call it every few seconds: only what it saw counts. */
export type Liveness = (status: WorkerStatus | undefined, now: number) => Health

/**
 * A worker is alive until it has failed, or has had records to read for five minutes and neither read, committed nor
 * tried to deliver anything, although no full lane held it back. That a blocked event loop answers no probe is for the
 * probe's own timeout.
 */
export function liveness(stuckAfter = STUCK_AFTER): Liveness {
  let done = ''
  let since: number | undefined
  return (status, now) => {
    const state = status?.state ?? 'starting'
    const work = workOf(status)
    if (!hasWork(status) || work !== done) since = undefined
    done = work
    since ??= now
    const stuck = now - since >= stuckAfter
    const stillness = `records wait, and for ${Math.floor((now - since) / 1_000)} s nothing was read, committed or delivered`
    return {
      ok: state !== 'failed' && !stuck,
      state,
      problems: stuck ? [stillness, ...problemsOf(status)] : problemsOf(status),
    }
  }
}

function hasWork(status: WorkerStatus | undefined): boolean {
  return (
    status?.state === 'running' &&
    Object.values(status.sources).some(({ lag, paused }) => lag !== null && lag > 0 && !paused)
  )
}

/** All that moves when a worker works. */
function workOf(status: WorkerStatus | undefined): string {
  if (!status) return ''
  const attempts = Object.values(status.sinks).map(({ outcomes }) => Object.values(outcomes))
  return JSON.stringify([status.read, status.epochs, attempts])
}

function openingOf(status: WorkerStatus | undefined): string[] {
  return Object.entries(status?.sources ?? {}).flatMap(([name, { opening }]) => {
    if (opening === 0) return []
    const what =
      opening === null
        ? 'its group has given it no partitions yet'
        : `the state of ${opening} partitions is being loaded`
    return [`source "${name}": ${what}`]
  })
}

function problemsOf(status: WorkerStatus | undefined): string[] {
  return Object.entries(status?.sinks ?? {}).flatMap(([name, { state, problem }]) =>
    state === 'ready' ? [] : [`sink "${name}" is ${state}${problem === null ? '' : `: ${problem}`}`],
  )
}
