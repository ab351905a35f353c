import { dedup } from '../../operators/dedup.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'

operatorSuite('dedup', {
  make: (samples) => {
    const passed = samples.pipe(dedup({ by: (e) => checked(e).id, within: '40s' }))
    return { main: passed, late: passed.side('late') }
  },
  forgets: '40s',
  outside: () => dedup({ by: (e) => checked(e).id, within: '40s' }),
  fixture: 'dedup.json',
})
