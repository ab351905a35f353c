import { merge } from '../../core/stream.ts'
import { map } from '../../operators/map.ts'
import { scan } from '../../operators/scan.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'

operatorSuite('merge of one stream with its own branches', {
  make: (samples) => ({
    main: merge({
      all: samples.pipe(map((e) => checked(e).id)),
      again: samples.pipe(map((e) => e.what)),
    }),
  }),
})

operatorSuite('merge of two sources', {
  make: (samples, others) => ({
    main: merge({ samples: samples.pipe(map((e) => checked(e))), others }).pipe(
      scan({ seed: [''], step: (seen, e) => [...seen.slice(-3), `${e.from} ${checked(e.value).id}`], ttl: '40s' }),
    ),
  }),
  forgets: '40s',
  fixture: 'merge.json',
})
