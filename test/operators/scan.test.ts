import { scan } from '../../operators/scan.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

const counted = () =>
  scan({
    by: (e: Sample) => e.who,
    seed: { count: 0, last: '' },
    step: (state, e) => ({ count: state.count + 1, last: checked(e).id }),
    ttl: '50s',
  })

operatorSuite('scan', {
  make: (samples) => ({ main: samples.pipe(counted()) }),
  forgets: '50s',
  outside: counted,
  fixture: 'scan.json',
})
