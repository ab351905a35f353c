import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Place, place } from '../support/command.ts'

let here: Place
beforeEach(() => {
  here = place()
})
afterEach(() => here.remove())

const PIPELINE = `import { merge, pipeline } from 'millrace'
import { patch, reconcile } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { z } from 'zod'

const Said = z.object({ who: z.string(), city: z.string(), at: z.number() })
const said = (topic: string) => fromKafka({ topic, schema: Said, key: (e) => e.who, time: (e) => e.at, lateness: '5m' })
const cities = patch((e: { city: string }) => ({ city: e.city }))
const people = merge({ crm: said('crm').pipe(cities), web: said('web').pipe(cities) }).pipe(
  reconcile({ name: 'people', trust: ['crm', 'web'] }),
)
export const mine = pipeline('mine', { people: people.to(file({ path: 'people.jsonl' })) })
`

test('a run says how far the clocks of its sources are off, and the state has it at any time', async () => {
  here.write('mine.ts', PIPELINE)
  const now = Date.now()
  const lines = (minutes: number) =>
    [0, 30]
      .map((late) => JSON.stringify({ who: 'ann', city: 'Ulm', at: now + minutes * 60_000 - late * 1_000 }))
      .join('\n')
  here.write('crm.jsonl', `${lines(20)}\n`)
  here.write('web.jsonl', `${lines(-120)}\n`)
  const run = ['run', 'mine.ts', '--input', 'crm=crm.jsonl', '--input', 'web=web.jsonl', '--until-end']
  const { out, code } = await here.run(...run)
  expect(code).toBe(0)
  expect(out).toMatch(/clocks of people: crm (19|20) min ahead, web 2 h behind, by the quickest event of each\n/)

  const json = JSON.parse((await here.run(...run, '--json')).out.trim().split('\n').at(-1)!)
  expect(json.clocks).toMatchObject([
    { operator: 'people', source: 'crm', ahead: expect.any(Number) },
    { operator: 'people', source: 'web', ahead: expect.any(Number) },
  ])
  expect(json.clocks[0].ahead).toBeGreaterThan(18 * 60_000)
  const kept = await here.run('state', 'list', 'people/clocks', '--json')
  expect(
    kept.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toMatchObject([
    { state: 'people/clocks', key: expect.stringMatching(/crm|web/) },
    { state: 'people/clocks', key: expect.stringMatching(/crm|web/) },
  ])
})
