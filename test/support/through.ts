import type { StandardSchemaV1 } from '@standard-schema/spec'
import fc from 'fast-check'
import type { Duration } from '../../core/duration.ts'
import { pipeline } from '../../core/pipeline.ts'
import { type Stream, stream } from '../../core/stream.ts'
import type { EpochBounds } from '../../core/task.ts'
import { listSource } from '../../testing/list-source.ts'
import { Trial } from '../../testing/trial.ts'

/** What happened to somebody. */
export interface Doing {
  readonly who: string
  readonly what: string
  readonly worth: number
  /** Event time, epoch milliseconds. */
  readonly at: number
}

export const START = 1_700_000_000_000

/** Doings of three people over about ten minutes, in disorder, some of them repeated. */
export const arbitraryDoings = ({ back = 60, most = 80 } = {}): fc.Arbitrary<Doing[]> =>
  fc
    .array(
      fc.record({
        who: fc.constantFrom('ann', 'bob', 'cyd'),
        what: fc.constantFrom('view', 'cart', 'buy'),
        worth: fc.integer({ min: -5, max: 50 }),
        gap: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 60 })),
        back: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: back })),
        repeats: fc.oneof(
          { weight: 6, arbitrary: fc.constant(0) },
          { weight: 1, arbitrary: fc.integer({ min: 1, max: 9 }) },
        ),
      }),
      { maxLength: most, size: 'max' },
    )
    .map((drafts) => {
      let now = START
      const made: Doing[] = []
      for (const { who, what, worth, gap, back, repeats } of drafts) {
        now += gap * 1_000
        made.push(made[made.length - repeats] ?? { who, what, worth, at: now - back * 1_000 })
      }
      return made
    })

/** How a run is cut: bounds of epochs by turns, and the commits before which the process dies. */
export interface Cuts {
  readonly bounds: readonly EpochBounds[]
  readonly deaths: readonly number[]
  readonly partitions: number
}

export const arbitraryCuts: fc.Arbitrary<Cuts> = fc.record({
  bounds: fc.array(fc.record({ records: fc.integer({ min: 1, max: 20 }), bytes: fc.constant(1_000_000) }), {
    minLength: 1,
    maxLength: 5,
  }),
  deaths: fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 3 }),
  partitions: fc.integer({ min: 1, max: 3 }),
})

const anything: StandardSchemaV1<Doing, Doing> = {
  '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as Doing }) },
}

/** A stream of doings, whose records the trial gives. */
export const doings = (name: string, lateness: Duration): Stream<Doing> =>
  stream(listSource(name, [[]]), { schema: anything, key: (e) => e.who, time: (e) => e.at, lateness })

/** The records by partition, each person in one. */
export const parted = (records: readonly Doing[], partitions: number): Doing[][] =>
  Array.from({ length: partitions }, (_, i) => records.filter(({ who }) => who.charCodeAt(0) % partitions === i))

/**
 * Puts records through the engine, cut and killed as drawn, and gives what reached each output.
 *
 * @param inputs records by source; every source has all partitions
 */
export async function through<O extends string>(
  inputs: Readonly<Record<string, readonly Doing[]>>,
  outputs: () => Readonly<Record<O, Stream<any>>>,
  { bounds, deaths, partitions }: Cuts = { bounds: [{ records: 1_000, bytes: 1_000_000 }], deaths: [], partitions: 1 },
): Promise<Record<O, any[]>> {
  let turn = 0
  const dying = new Set(deaths.map((_, i) => deaths.slice(0, i + 1).reduce((sum, life) => sum + life, 0)))
  const trial = new Trial({
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, records]) => [name, parted(records, partitions)])),
    pipeline: (to) =>
      pipeline(
        'through',
        Object.fromEntries(Object.entries<Stream<any>>(outputs()).map(([name, each]) => [name, each.to(to)])),
      ),
    epoch: () => bounds[turn++ % bounds.length]!,
    dies: (commit) => dying.has(commit),
  })
  await trial.settle()
  await trial.finish()
  if (trial.outcome().letters.length > 0) throw new Error(trial.outcome().letters.join('\n'))
  return Object.fromEntries(Object.keys(outputs()).map((name) => [name, trial.values(name)])) as Record<O, any[]>
}
