import { filter } from '../../operators/filter.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

const carts = () => filter((e: Sample) => checked(e).what === 'cart')

operatorSuite('filter', { make: (samples) => ({ main: samples.pipe(carts()) }), outside: carts })
