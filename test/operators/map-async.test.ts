import { absence } from '../../operators/absence.ts'
import { mapAsync } from '../../operators/map-async.ts'
import { scan } from '../../operators/scan.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

/** Answers after a few turns of the queue, some sooner than others. */
async function answer(e: Sample): Promise<Sample> {
  for (let turns = Number(e.id.length + e.at / 1_000) % 5; turns > 0; turns--) await Promise.resolve()
  return checked(e)
}

const asked = () => mapAsync(answer, { concurrency: 3 })

operatorSuite('mapAsync', { make: (samples) => ({ main: samples.pipe(asked()) }), outside: asked })

operatorSuite('mapAsync between operators with state', {
  make: (samples) => ({
    main: samples.pipe(
      scan({ name: 'before', seed: 0, step: (count) => count + 1, emit: (count, e) => ({ ...e, count }), ttl: '40s' }),
      mapAsync(async (e) => ({ ...(await answer(e)), count: e.count })),
      absence({ after: (e) => e.what === 'cart', unless: (e) => e.what === 'buy', within: '30s' }),
    ),
    straight: samples.pipe(
      scan({ name: 'beside', seed: 0, step: (count, e) => count + checked(e).id.length, ttl: '40s' }),
    ),
  }),
  forgets: '100s',
  fixture: 'map-async.json',
})
