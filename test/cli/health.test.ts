import { afterEach, expect, test } from 'vitest'
import { type Health, liveness, readiness, wellBeing } from '../../cli/health.ts'
import { type MetricsServer, serveMetrics } from '../../cli/metrics-server.ts'
import { createMetrics } from '../../core/metrics.ts'
import type { SinkStatus, SourceStatus, WorkerStatus } from '../../core/status.ts'

const none = { p50: null, p99: null }
const source: SourceStatus = {
  read: 0,
  lag: 0,
  unit: 'records',
  standIn: null,
  partitions: 1,
  assigned: 1,
  opening: 0,
  ended: false,
  paused: false,
}
const sink: SinkStatus = {
  rows: 0,
  batches: 0,
  rejected: 0,
  stagedBatches: 0,
  stagedBytes: 0,
  stagedAge: 0,
  state: 'ready',
  problem: null,
  standIn: null,
  guarantee: 'idempotent',
  outcomes: { applied: 0, rejected: 0, notSent: 0, unknown: 0 },
  freshness: none,
  latency: none,
  recent: { freshness: none, latency: none },
}

function worker(
  state: WorkerStatus['state'],
  { read = 0, epochs = 0, ...of }: { read?: number; epochs?: number; source?: object; sink?: object } = {},
) {
  return {
    pipeline: 'mine',
    state,
    read,
    epochs,
    deadLetters: 0,
    duplicates: 0,
    late: 0,
    seconds: 1,
    sources: { events: { ...source, ...of.source } },
    sinks: { rows: { ...sink, ...of.sink } },
    strayKeys: {},
    freshness: none,
    latency: none,
  } as WorkerStatus
}

const joining = (opening: number | null) => ({ source: { assigned: 0, opening } })
const free = { source: { assigned: 0, opening: 0 } }

test.each([
  ['before it has started', undefined, 'starting', false, false, true],
  ['while it starts', worker('starting'), 'starting', false, false, true],
  ['before its group has given it partitions', worker('running', joining(null)), 'running', false, true, true],
  ['while it loads their state', worker('running', joining(3)), 'running', false, true, true],
  ['with no partition, to be there when one is free', worker('running', free), 'running', true, true, true],
  ['while it works', worker('running'), 'running', true, true, true],
  ['while a sink is down', worker('running', { sink: { state: 'retrying' } }), 'running', true, true, true],
  ['while a sink needs a person', worker('running', { sink: { state: 'parked' } }), 'running', true, false, true],
  ['while it drains', worker('draining'), 'draining', false, true, true],
  ['when it has ended', worker('ended'), 'ended', false, true, true],
  ['when it has failed', worker('failed'), 'failed', false, false, false],
] as const)('%s, a worker says so', (_, status, state, ready, well, alive) => {
  expect(readiness(status)).toMatchObject({ state, ok: ready })
  expect(wellBeing(status)).toMatchObject({ state, ok: well })
  expect(liveness()(status, 0)).toMatchObject({ state, ok: alive })
})

test('what is wrong with a sink is told in words', () => {
  const status = worker('running', { sink: { state: 'retrying', problem: 'connection refused' } })
  expect(readiness(status).problems).toEqual(['sink "rows" is retrying: connection refused'])
})

test('what it waits for before it is ready is told in words', () => {
  expect(readiness(worker('running', joining(null))).problems).toEqual([
    'source "events": its group has given it no partitions yet',
  ])
  expect(readiness(worker('running', joining(3))).problems).toEqual([
    'source "events": the state of 3 partitions is being loaded',
  ])
})

/** Looks every ten seconds for as long as is said, and gives the first look that is not well. */
function watched(
  seconds: number,
  status: (second: number) => WorkerStatus,
): { at: number; health: Health } | undefined {
  const alive = liveness()
  for (let second = 0; second <= seconds; second += 10) {
    const health = alive(status(second), second * 1_000)
    if (!health.ok) return { at: second, health }
  }
  return undefined
}

const waiting = { source: { lag: 7 } }

test('a worker that has work and does none of it for five minutes is stuck', () => {
  const stuck = watched(600, (second) => worker('running', { ...waiting, read: Math.min(second, 60) }))
  expect(stuck).toMatchObject({ at: 360, health: { state: 'running' } })
  expect(stuck!.health.problems).toEqual(['records wait, and for 300 s nothing was read, committed or delivered'])
})

test.each([
  ['reads', (second: number) => worker('running', { ...waiting, read: second })],
  ['commits timers', (second: number) => worker('running', { ...waiting, epochs: second })],
  ['tries to deliver', (second: number) => worker('running', { ...waiting, sink: { outcomes: { unknown: second } } })],
  ['has nothing to read', () => worker('running')],
  ['cannot know what there is to read', () => worker('running', { source: { lag: null } })],
  ['is held back by a full lane', () => worker('running', { source: { lag: 7, paused: true } })],
  ['drains', () => worker('draining', waiting)],
] as const)('a worker that %s is alive', (_, status) => {
  expect(watched(3_600, status)).toBeUndefined()
})

test('records that came after a long quiet time are not old', () => {
  expect(watched(3_600, (second) => worker('running', { source: { lag: second < 3_400 ? 0 : 7 } }))).toBeUndefined()
})

let server: MetricsServer | undefined
afterEach(() => server?.close())

test('the probes are served, each with its own answer', async () => {
  let status: WorkerStatus | undefined
  server = await serveMetrics('0', createMetrics(), () => status)
  const ask = async (path: string) => {
    const response = await fetch(server!.url.replace('/metrics', path))
    return [response.status, await response.text()]
  }
  const answers = async () => Promise.all(['/live', '/ready', '/health'].map(async (path) => (await ask(path))[0]))
  expect(await answers()).toEqual([200, 503, 503])
  status = worker('running')
  expect(await answers()).toEqual([200, 200, 200])
  expect(await ask('/ready')).toEqual([200, '{"state":"running","problems":[]}\n'])
  status = worker('draining')
  expect(await answers()).toEqual([200, 503, 200])
  status = worker('failed', { sink: { state: 'parked', problem: 'no such table' } })
  expect(await answers()).toEqual([503, 503, 503])
  expect(await ask('/live')).toEqual([
    503,
    '{"state":"failed","problems":["sink \\"rows\\" is parked: no such table"]}\n',
  ])
  expect(await ask('/nowhere')).toEqual([404, 'there are /metrics, /live, /ready and /health\n'])
})
