import { expect, test } from 'vitest'
import { pipeline } from '../../core/pipeline.ts'
import { operate } from '../../core/standalone.ts'
import { stream } from '../../core/stream.ts'
import { scan } from '../../operators/scan.ts'
import { listSource } from '../../testing/list-source.ts'
import { type Outcome, Trial, type TrialOptions } from '../../testing/trial.ts'

/** Counts in a variable of its own, which no commit keeps. */
const leaky = () =>
  operate<number, number, {}>({
    kind: 'leaky',
    start: ({ emit }) => {
      let count = 0
      return { next: () => emit(++count) }
    },
  })

const kept = () => scan<number, number>({ seed: 0, step: (count) => count + 1, ttl: '1d' })

async function outcomeOf(operator: () => any, more: Partial<TrialOptions>): Promise<Outcome> {
  const trial = new Trial({
    inputs: { numbers: [[1, 2, 3, 4, 5, 6]] },
    pipeline: (to) => {
      const numbers = stream(listSource('numbers', [[]]), {
        schema: {
          '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value: value as number }) },
        },
        key: () => 'one',
        time: (n: number) => n,
        lateness: '1s',
      } as never) as any
      return pipeline('trial', { out: numbers.pipe(operator()).to(to) })
    },
    epoch: () => ({ records: 1, bytes: 1 }),
    ...more,
  })
  await trial.settle()
  await trial.finish()
  return trial.outcome()
}

const dies = (commit: number) => commit === 3

test('an operator that keeps its state to itself is seen by a restart', async () => {
  expect(await outcomeOf(kept, { dies })).toEqual(await outcomeOf(kept, {}))
  expect((await outcomeOf(leaky, { dies })).rows).not.toEqual((await outcomeOf(leaky, {})).rows)
})
