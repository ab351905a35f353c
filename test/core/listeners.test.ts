import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { countingSink } from '../support/counting-sink.ts'
import { numbersTo } from '../support/memory-run.ts'

const seen = new Set<AbortSignal>()
const { addEventListener } = AbortSignal.prototype

beforeEach(() => {
  vi.spyOn(AbortSignal.prototype, 'addEventListener').mockImplementation(function (this: AbortSignal, ...rest) {
    seen.add(this)
    return addEventListener.apply(this, rest as Parameters<typeof addEventListener>)
  })
})
afterEach(() => {
  vi.restoreAllMocks()
  seen.clear()
})

test('what lives as long as a worker does not gather listeners with every epoch, nor with every wait', async () => {
  const sink = countingSink({})
  const worker = await numbersTo({ records: 600_000, sinks: { out: [sink] } })
  let most = 0
  const watch = setInterval(() => {
    for (const signal of seen) most = Math.max(most, getEventListeners(signal, 'abort').length)
  }, 5)
  const { epochs } = await worker.done
  clearInterval(watch)
  expect(epochs).toBeGreaterThan(30)
  expect(most).toBeGreaterThan(0)
  expect(most).toBeLessThan(10)
})
