import { expect, test } from 'vitest'
import { pipeline } from '../../core/pipeline.ts'
import { stream } from '../../core/stream.ts'
import { map } from '../../operators/map.ts'
import { listSource } from '../support/list-source.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'
import { Trial } from '../support/trial.ts'
import { countWindow } from '../support/window-spike.ts'

operatorSuite('a window, as a spike', {
  make: (samples) => {
    const counted = samples.pipe(map((e) => checked(e))).pipe(countWindow({ size: '30s' }))
    return { main: counted, late: counted.side('late') }
  },
  forgets: '31s',
})

test('a window counts what a plain computation counts, and what is too late is laid aside', async () => {
  const start = 1_700_000_010_000
  const times = [0, 5, 29, 30, 31, 12, 59, 95, 3, 88]
  const samples = times.map(
    (at, id): Sample => ({ id: `${id}`, who: 'ann', what: 'view', at: start + at * 1_000, bad: false }),
  )
  const trial = new Trial({
    inputs: { samples: [samples] },
    pipeline: (to) => {
      const source = stream<any>(listSource('samples', [[]]), {
        schema: { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } },
        key: (e: Sample) => e.who,
        time: (e: Sample) => e.at,
        lateness: '20s',
      } as never)
      const counted = (source as any).pipe(countWindow({ size: '30s' }))
      return pipeline('spike', { counts: counted.to(to), late: counted.side('late').to(to) })
    },
  })
  await trial.settle()
  await trial.finish()
  const base = Math.floor(start / 30_000) * 30_000
  expect(base).toBe(start)
  expect(trial.values('counts').map(({ start: from, count }) => [(from - base) / 1_000, count])).toEqual([
    [0, 4],
    [30, 3],
    [60, 1],
    [90, 1],
  ])
  expect(trial.values('late').map(({ id }) => id)).toEqual(['8'])
})
