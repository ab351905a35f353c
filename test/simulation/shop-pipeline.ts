import type { StandardSchemaV1 } from '@standard-schema/spec'
import { type Pipeline, pipeline } from '../../core/pipeline.ts'
import { type LaneOptions, merge, type Stream, stream } from '../../core/stream.ts'
import { absence } from '../../operators/absence.ts'
import { dedup } from '../../operators/dedup.ts'
import { map } from '../../operators/map.ts'
import { mapAsync } from '../../operators/map-async.ts'
import { scan } from '../../operators/scan.ts'
import { tap } from '../../operators/tap.ts'
import { type Input, isCursed, LATENESS, MEMORY, type ShopEvent, WITHIN } from './shop.ts'
import { type Progress, type System, shopSource } from './systems.ts'
import type { Variant } from './variant.ts'
import type { Life, World } from './world.ts'

export interface Stage {
  readonly world: World
  readonly variant: Variant
  readonly input: Input
  readonly progress: Progress
  readonly rows: System
  readonly mails: System
  /** Ends a life, as a kill does, in the middle of its work. */
  kill(life: Life): void
}

const schema: StandardSchemaV1<unknown, ShopEvent> = {
  '~standard': { version: 1, vendor: 'simulation', validate: (value) => ({ value: value as ShopEvent }) },
}

/** The pipeline of a schedule, as one life runs it: each event a row, and a mail for each cart that was left. */
export function shopPipeline({ world, variant, input, progress, rows, mails, kill }: Stage, life: Life): Pipeline {
  const { lane, forgetful, asynchronous } = variant
  const read = (name: 'shop' | 'desk') =>
    stream(shopSource(world, life, name, input[name]!, progress), {
      schema,
      key: (e: ShopEvent) => e.who,
      time: (e: ShopEvent) => e.at,
      lateness: `${LATENESS}ms`,
    })
  const all: Stream<ShopEvent> = input.desk ? merge(read('shop'), read('desk')) : read('shop')
  const look = (e: ShopEvent) => {
    if (e.flaw === 'kills') kill(life)
    if (e.flaw === 'bad' || e.flaw === 'kills') throw new Error(e.flaw)
    return e
  }
  const checked = all.pipe(
    asynchronous
      ? mapAsync(
          async (e: ShopEvent) => {
            await (e.flaw === 'hangs'
              ? new Promise(() => undefined)
              : life.answer(world.random.whole(0, 20), () => undefined))
            return look(e)
          },
          { name: 'check', concurrency: 3, timeout: '30s' },
        )
      : map(look),
  )
  const events = checked.pipe(dedup({ by: (e: ShopEvent) => e.id, within: forgetful ? `${MEMORY}ms` : '7d' }))
  const late = events.side('late').pipe(map(({ id, who, at }) => ({ id: `late ${id}`, who, at })))
  const left = events.pipe(
    scan({ name: 'steps', seed: NONE, step, ttl: '7d' }),
    tap(trip),
    absence({
      after: (s: Steps) => s.what === 'add',
      unless: (s: Steps) => s.what === 'buy',
      within: `${WITHIN}ms`,
    }),
    map(({ key, value: { n }, at }) => {
      if (isCursed(key)) throw new Error('nobody writes to them')
      return { key, at, n }
    }),
  )
  const bound: LaneOptions = lane ? { maxStaged: `${lane.bytes}B`, whenFull: lane.whenFull } : {}
  return pipeline(
    'simulated',
    {
      rows: merge(events as Stream<object>, late as Stream<object>).to(rows.sink(life), bound),
      mails: left.to(mails.sink(life), bound),
    },
    { maxPoison: 1 },
  )
}

/** What a person has done so far. */
interface Steps {
  readonly n: number
  readonly what: string
  readonly trips?: true
}

const NONE: Steps = { n: 0, what: '' }

function step({ n }: Steps, { what, flaw }: ShopEvent): Steps {
  return { n: n + 1, what, ...(flaw === 'trips' ? { trips: true } : {}) }
}

/** Its author changes a state, which is not theirs to change, and fails: nothing of it may be left behind. */
function trip(steps: Steps): void {
  if (!steps.trips) return
  ;(steps as { n: number }).n = 99
  throw new Error('trips')
}
