import { flatMap } from '../../operators/flat-map.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

const letters = () => flatMap((e: Sample) => checked(e).what !== 'view' && [...e.who])

operatorSuite('flatMap', { make: (samples) => ({ main: samples.pipe(letters()) }), outside: letters })
