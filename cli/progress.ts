import type { Logger } from '../core/logger.ts'
import type { Runtime } from '../core/runtime.ts'
import type { WorkerStatus } from '../core/status.ts'
import { count, size, span } from './format.ts'
import { rateOf } from './summary.ts'
import { fit, type Terminal } from './terminal.ts'

/** Shows how a worker gets on, until it is stopped. */
export interface Progress {
  stop(): void
}

const REDRAW = 200
const LOG_EVERY = 10_000

/** The last line of a terminal, which other lines are printed above of. */
export interface LiveLine {
  show(text: string): void
  /** Prints whole lines; the live one moves below them. */
  print(text: string): void
  clear(): void
}

/** The live line of a terminal. */
export function liveLine(on: Terminal): LiveLine {
  let now = ''
  const wipe = '\r\u001b[K'
  return {
    show(text) {
      now = fit(text, (on.width ?? 80) - 1)
      on.write(wipe + now)
    },
    print: (text) => on.write(now === '' ? text : wipe + text + now),
    clear() {
      if (now !== '') on.write(wipe)
      now = ''
    },
  }
}

/** Redraws the live line a few times a second. */
export function drawProgress(status: () => WorkerStatus, runtime: Runtime, line: LiveLine): Progress {
  const most: Record<string, number> = {}
  let before = { read: 0, seconds: 0 }
  let rate = 0
  return repeat(runtime, REDRAW, () => {
    const now = status()
    const seconds = now.seconds - before.seconds
    if (seconds >= 0.5 || before.seconds === 0) {
      rate = Math.round((now.read - before.read) / Math.max(seconds, 0.001))
      before = now
    }
    for (const [name, { lag }] of Object.entries(now.sources)) {
      if (lag !== null) most[name] = Math.max(most[name] ?? 0, lag)
    }
    line.show(progressText(now, rate, most))
  })
}

/** Logs where the worker is every ten seconds. */
export function logProgress(status: () => WorkerStatus, runtime: Runtime, logger: Logger): Progress {
  return repeat(runtime, LOG_EVERY, () => {
    const now = status()
    const { read, deadLetters, duplicates, late, epochs, freshness } = now
    const lag = Object.fromEntries(Object.entries(now.sources).map(([name, source]) => [name, source.lag]))
    const sinks = Object.fromEntries(
      Object.entries(now.sinks).map(([name, { rows, stagedBatches, stagedBytes, state, problem }]) => [
        name,
        { rows, stagedBatches, stagedBytes, state, ...(problem === null ? {} : { problem }) },
      ]),
    )
    logger.info(
      { read, eventsPerSecond: rateOf(now), deadLetters, duplicates, late, epochs, lag, sinks, freshness },
      'running',
    )
  })
}

/**
 * One line of how it stands.
 *
 * @param rate records a second, of late
 * @param most the most that each source was seen to have left, for the share that is done
 */
export function progressText(status: WorkerStatus, rate: number, most: Readonly<Record<string, number>>): string {
  const { pipeline, read, deadLetters, freshness, sources, sinks } = status
  const parts = [`${count(read)} read`, `${count(rate)}/s`]
  const lags = Object.values(sources).flatMap(({ lag, unit }) =>
    lag === null ? [] : [unit === 'bytes' ? size(lag) : count(lag)],
  )
  if (lags.length > 0 && Object.values(sources).some(({ lag }) => lag !== 0)) parts.push(`${lags.join(' + ')} left`)
  for (const [name, { rows, stagedBatches, stagedBytes, state, problem }] of Object.entries(sinks)) {
    const waits = stagedBatches > 1 ? ` (${size(stagedBytes)} waiting)` : ''
    parts.push(`${name} ${count(rows)}${waits}${state === 'ready' ? '' : ` ${state}: ${problem ?? 'not reached'}`}`)
  }
  if (deadLetters > 0) parts.push(`${count(deadLetters)} dead letters`)
  if (freshness.p99 !== null && freshness.p99 < 86_400_000) parts.push(`fresh ${span(freshness.p99)}`)
  const share = doneOf(status, most)
  return [pipeline, ...(share === undefined ? [] : [bar(share)]), parts.join(' · ')].join('  ')
}

/** The share that has been read, 0 to 1; undefined when a source cannot say, or has nothing to read yet. */
function doneOf({ sources }: WorkerStatus, most: Readonly<Record<string, number>>): number | undefined {
  let share = 1
  for (const [name, { lag }] of Object.entries(sources)) {
    const all = most[name] ?? 0
    if (lag === null || all === 0) return undefined
    share = Math.min(share, 1 - lag / all)
  }
  return share
}

function bar(share: number): string {
  const width = 12
  const full = Math.round(share * width)
  return `${'█'.repeat(full)}${'░'.repeat(width - full)} ${Math.floor(share * 100)}%`
}

function repeat(runtime: Runtime, every: number, show: () => void): Progress {
  const stopped = new AbortController()
  const loop = async () => {
    for (;;) {
      await runtime.sleep(every, stopped.signal)
      if (stopped.signal.aborted) return
      show()
    }
  }
  void loop()
  return { stop: () => stopped.abort() }
}
