import { tap } from '../../operators/tap.ts'
import { checked, operatorSuite, type Sample } from '../support/operator-suite.ts'

const looked = () => tap((e: Sample) => checked(e))

operatorSuite('tap', { make: (samples) => ({ main: samples.pipe(looked()) }), outside: looked })
