import { expect, test } from 'vitest'
import { RecentSketch } from '../../core/recent.ts'
import { systemRuntime } from '../../core/runtime.ts'

function sketch() {
  let now = 1_000
  const recent = new RecentSketch({ ...systemRuntime, elapsed: () => now })
  return {
    recent,
    pass(seconds: number) {
      now += seconds * 1_000
    },
  }
}

test('quantiles are those of the last minute, however much came before', () => {
  const { recent, pass } = sketch()
  for (let second = 0; second < 600; second++) {
    recent.add(10, 1_000)
    pass(1)
  }
  expect(recent.quantiles.p50).toBe(10)
  for (let second = 0; second < 120; second++) {
    recent.add(5_000, 1)
    pass(1)
  }
  expect(recent.quantiles.p50).toBeGreaterThan(4_900)
})

test('what came within the last minute counts, whenever it is looked at', () => {
  for (let seconds = 0; seconds < 200; seconds++) {
    const { recent, pass } = sketch()
    pass(seconds)
    recent.add(10)
    pass(60)
    expect(recent.quantiles.p99).toBe(10)
    pass(61)
    expect(recent.quantiles).toEqual({ p50: null, p99: null })
  }
})
