import { absence } from '../../operators/absence.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

const left = (again: 'restart' | 'ignore') =>
  absence({
    by: (e: Sample) => e.who,
    after: (e) => checked(e).what === 'cart',
    unless: (e) => checked(e).what === 'buy',
    within: '30s',
    again,
  })

for (const again of ['restart', 'ignore'] as const) {
  operatorSuite(`absence, again: '${again}'`, {
    make: (samples) => {
      const main = samples.pipe(left(again))
      return { main, late: main.side('late') }
    },
    forgets: '100s',
    outside: () => left(again),
    fixture: `absence-${again}.json`,
  })
}
