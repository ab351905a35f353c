import { expect, test } from 'vitest'
import { patch } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'

operatorSuite('patch', {
  make: (samples) => ({
    main: samples.pipe(
      patch((e) => ({ what: checked(e).what }), { version: (e) => e.at, deleted: (e) => e.what === 'buy' }),
    ),
  }),
  outside: () => patch((e) => ({ what: checked(e).what }), { version: (e) => e.at, deleted: (e) => e.what === 'buy' }),
})

test('an option that is no function is named', () => {
  expect(() => patch(() => ({}), { version: 'lsn' as never })).toThrow(
    /patch: version must be a function of the record, got 'lsn'/,
  )
})
