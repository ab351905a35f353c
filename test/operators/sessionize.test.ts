import { expect, test } from 'vitest'
import { sessionize } from '../../operators/index.ts'
import { checked, operatorSuite } from '../support/operator-suite.ts'
import { type Doing, doings, START, through } from '../support/through.ts'

operatorSuite('sessionize', {
  make: (samples) => ({ main: samples.pipe(sessionize({ by: (e) => checked(e).what, gap: '12s' })) }),
  forgets: '12001ms',
  fixture: 'sessionize.json',
})

const view = (seconds: number, who = 'ann'): Doing => ({ who, what: 'view', worth: 1, at: START + seconds * 1_000 })
const names = async (list: Doing[]) => {
  const { main } = await through({ doings: list }, () => ({
    main: doings('doings', '1m').pipe(sessionize({ gap: '20s' })),
  }))
  return main.map(({ session, number }) => {
    const [key, began] = session.split('/')
    return `${key} ${(Number(began) - START) / 1_000} #${number}`
  })
}

test('records of one visit have one name, and a silence begins another', async () => {
  expect(await names([view(0), view(10), view(5, 'bob'), view(29), view(49)])).toEqual([
    'ann 0 #1',
    'ann 0 #2',
    'bob 5 #1',
    'ann 0 #3',
    'ann 49 #1',
  ])
})

test('a name is not taken back: not by an earlier record, and not when two visits become one', async () => {
  expect(await names([view(30), view(15), view(60), view(45), view(61)])).toEqual([
    'ann 30 #1',
    'ann 30 #2',
    'ann 60 #1',
    'ann 30 #4',
    'ann 30 #5',
  ])
})
