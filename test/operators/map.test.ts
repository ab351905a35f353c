import { map } from '../../operators/map.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

const named = () => map((e: Sample) => `${checked(e).who} ${e.id}`)

operatorSuite('map', {
  make: (samples) => ({
    main: samples.pipe(named()),
    drawn: samples.pipe(map((e, meta) => [checked(e).id, meta.random(), meta.id(), meta.key, meta.time, meta.source])),
  }),
  outside: named,
})
