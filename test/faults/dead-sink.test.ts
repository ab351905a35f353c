import { expect, test } from 'vitest'
import { MemoryDisk } from '../../state/memory.ts'
import { countingSink } from '../support/counting-sink.ts'
import { numbersTo, until } from '../support/memory-run.ts'

const RECORDS = 100_000

function mortal() {
  const life = { dead: true }
  const sink = countingSink({
    keep: false,
    answer: async () =>
      life.dead ? { kind: 'notSent', reason: 'connection refused', retryAfter: 50 } : { kind: 'applied' },
  })
  return { life, sink }
}

test('a dead sink changes nothing for the others until its lane is at its bound; then the source stands still, and goes on when it is back', async () => {
  const { life, sink } = mortal()
  const good = countingSink({ keep: false })
  const worker = await numbersTo({ records: RECORDS, sinks: { dead: [sink, { maxStaged: '1MB' }], good: [good] } })
  await until(() => worker.status().sources.numbers!.paused)
  const { read } = worker.status()
  expect(read).toBeGreaterThan(10_000)
  expect(read).toBeLessThan(RECORDS)
  await until(() => good.rows === read)
  expect(sink.rows).toBe(0)
  expect(worker.status().sinks.dead).toMatchObject({ state: 'retrying', problem: 'connection refused' })
  expect(worker.status().sinks.dead!.stagedBytes).toBeGreaterThan(1_000_000)
  await until(() => worker.status().read === read)
  life.dead = false
  const end = await worker.done
  expect(end).toMatchObject({ read: RECORDS, deadLetters: 0 })
  expect([sink.rows, good.rows]).toEqual([RECORDS, RECORDS])
}, 30_000)

test("with whenFull 'park' the others go on to the end, and what the lane does not take is in the dead letters, row by row", async () => {
  const { life, sink } = mortal()
  const good = countingSink({ keep: false })
  const disk = new MemoryDisk()
  const worker = await numbersTo({
    records: RECORDS,
    disk,
    sinks: { dead: [sink, { maxStaged: '1MB', whenFull: 'park' }], good: [good] },
  })
  await until(() => worker.status().read === RECORDS && good.rows === RECORDS)
  const { sinks, deadLetters } = worker.status()
  expect(sinks.dead!.state).toBe('parked')
  expect(sinks.dead!.stagedBytes).toBeLessThanOrEqual(1024 * 1024)
  expect(deadLetters).toBeGreaterThan(RECORDS / 2)
  life.dead = false
  await worker.done
  expect(sink.rows).toBe(RECORDS - deadLetters)
  const letters = [...disk.deadLetters]
  expect(letters.length).toBe(deadLetters)
  expect(letters[0]).toMatchObject({
    where: 'dead',
    code: 'SINK_REJECTED',
    reason: expect.stringContaining('whenFull'),
  })
  expect(new Set(letters.map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString()).n)).size).toBe(deadLetters)
}, 30_000)

test('a lane that has waited longer than maxAge stops the source as a full one does', async () => {
  const { life, sink } = mortal()
  const worker = await numbersTo({ records: RECORDS, sinks: { dead: [sink, { maxAge: '100ms' }] } })
  await until(() => worker.status().sources.numbers!.paused || worker.status().read === RECORDS)
  life.dead = false
  expect(await worker.done).toMatchObject({ read: RECORDS })
  expect(sink.rows).toBe(RECORDS)
}, 30_000)
