import { readFileSync } from 'node:fs'
import { firstValueFrom, type Observable, map as rxMap, merge as rxMerge, Subject, toArray } from 'rxjs'
import { currentEventTime, withEventTime } from '../../core/standalone.ts'
import {
  absence,
  dedup,
  filter,
  flatMap,
  hopping,
  join,
  joinAsOf,
  joinLatest,
  keyBy,
  latest,
  map,
  mapAsync,
  patch,
  rateOf,
  reconcile,
  repartition,
  route,
  sample,
  scan,
  sequence,
  series,
  session,
  sessionize,
  tap,
  throttle,
  tumbling,
} from '../../operators/index.ts'
import type { Diagram, Line, Marble } from './marble-svg.ts'

const MINUTE = 60_000

/** What flows in the diagrams: somebody's doing. */
export interface Doing {
  readonly who: string
  readonly what: string
  /** The number behind the word, as in `buy30`. */
  readonly worth: number
}

type Run = (...inputs: Observable<Doing>[]) => Observable<unknown>

interface Drawing {
  /** `who what minute`, in the order of arrival: `'a cart 0, b view 5'`. */
  readonly inputs: Readonly<Record<string, string>>
  /** The operator on the inputs. What is written of it in the diagram is its text. */
  readonly run: Run
  /** The operator as it is written, where that is not the text of `run`. */
  readonly call?: string
  /** What stands in an output's marble. @default the value */
  readonly show?: (value: any) => { readonly key?: string; readonly text: string }
}

/** One drawing an operator. Its outputs are not drawn by hand: they are what the operator gives. */
const DRAWINGS: Readonly<Record<string, Drawing>> = {
  map: {
    inputs: { events: 'a buy30 0, b buy15 10, a buy8 20' },
    run: (events) => events.pipe(map((e) => e.worth * 2)),
  },
  filter: {
    inputs: { events: 'a view 0, a cart 8, b view 16, b buy 24' },
    run: (events) => events.pipe(filter((e) => e.what !== 'view')),
  },
  flatMap: {
    inputs: { events: 'a buy2 0, b view 12, b buy1 24' },
    run: (events) => events.pipe(flatMap((e) => Array(e.worth).fill('item'))),
  },
  tap: { inputs: { events: 'a view 0, b cart 10' }, run: (events) => events.pipe(tap((e) => e.who.length)) },
  mapAsync: {
    inputs: { events: 'a cart1 0, b cart2 10, a cart3 20' },
    run: (events) => events.pipe(mapAsync(async (e) => `item ${e.worth}`)),
  },
  dedup: {
    inputs: { events: 'a cart 0, b view 6, a cart 12, b buy 20, b view 26' },
    run: (events) => events.pipe(dedup({ by: (e) => e.who + e.what, within: '24h' })),
  },
  scan: {
    inputs: { events: 'a buy30 0, b buy15 8, a buy8 16, b buy5 24' },
    run: (events) => events.pipe(scan({ by: (e) => e.who, seed: 0, step: (sum, e) => sum + e.worth, ttl: '30d' })),
  },
  absence: {
    inputs: { events: 'a cart 0, b cart 10, b buy 25, a view 50' },
    run: (events) =>
      events.pipe(
        absence({
          by: (e) => e.who,
          after: (e) => e.what === 'cart',
          unless: (e) => e.what === 'buy',
          within: '30m',
        }),
      ),
    show: (left) => ({ key: left.key, text: `${left.key} left` }),
  },
  tumbling: {
    inputs: { events: 'a buy30 3, b buy15 8, a buy8 16, a buy5 24, b buy9 38' },
    run: (events) =>
      events.pipe(tumbling({ by: (e) => e.who, size: '20m', aggregate: (a) => ({ eur: a.sum((e) => e.worth) }) })),
    show: (window) => ({ key: window.key, text: `${window.eur}` }),
  },
  hopping: {
    inputs: { events: 'a buy30 3, a buy8 12, a buy5 24' },
    run: (events) =>
      events.pipe(
        hopping({ by: (e) => e.who, size: '20m', every: '10m', aggregate: (a) => ({ eur: a.sum((e) => e.worth) }) }),
      ),
    show: (window) => ({ key: window.key, text: `${window.eur}` }),
  },
  session: {
    inputs: { events: 'a view 0, a view 8, a cart 13, b view 20, a view 45' },
    run: (events) => events.pipe(session({ by: (e) => e.who, gap: '15m', aggregate: (a) => ({ steps: a.count() }) })),
    show: (visit) => ({ key: visit.key, text: `${visit.steps} ${visit.steps === 1 ? 'step' : 'steps'}` }),
  },
  sessionize: {
    inputs: { events: 'a view 0, a view 8, b view 14, a cart 20, a view 50' },
    run: (events) => events.pipe(sessionize({ by: (e) => e.who, gap: '15m' })),
    show: ({ value, session, number }) => ({ key: value.who, text: `${session.replace(/0000$/, '')} #${number}` }),
  },
  patch: {
    inputs: { events: 'a buy30 0, b view 12' },
    run: (events) => events.pipe(patch((e) => ({ spent: e.what === 'buy' ? e.worth : undefined }))),
    show: ({ set }) => ({ text: `spent: ${set.spent ?? 'says nothing'}` }),
  },
  reconcile: {
    inputs: { events: 'a web15 0, a crm30 20, a web8 12, a web40 30' },
    run: (events) =>
      events.pipe(
        rxMap(({ what, worth }) => ({ from: what as 'crm' | 'web', value: { set: { points: worth } } })),
        reconcile({ by: () => 'a', trust: ['crm', 'web'] }),
      ),
    show: ({ record, history }) => ({ key: 'a', text: `points ${record.points}${history ?? ''}` }),
  },
  route: {
    inputs: { events: 'a view 0, a cart 8, b buy40 16, b view 24' },
    run: (events) => events.pipe(route({ looks: (e) => e.what === 'view', sales: (e) => e.what === 'buy' })),
    show: ({ from, value }) => ({ key: value.who, text: from }),
  },
  keyBy: {
    inputs: { events: 'a view 0, a cart 8, b view 16' },
    run: (events) => events.pipe(keyBy((e) => e.what)),
  },
  repartition: {
    inputs: { events: 'a view 0, a cart 8, b view 16' },
    run: (events) => events.pipe(repartition((e) => e.what)),
  },
  // of streams only; what comes in the order of its time comes out so
  merge: {
    inputs: { web: 'a view 0, b view 14, a view 30', crm: 'a Bonn 8, b Ulm 22' },
    run: (web, crm) => rxMerge(web, crm!),
    call: 'merge({ web, crm })',
    show: ({ who, what }) => ({ key: who, text: `${what === 'view' ? 'web' : 'crm'}: ${what}` }),
  },
  throttle: {
    inputs: { events: 'a buy 0, a buy 10, b buy 15, a buy 26, a buy 34' },
    run: (events) => events.pipe(throttle({ by: (e) => e.who, per: '25m' })),
  },
  sample: {
    inputs: { events: 'a buy30 2, a buy8 12, b buy5 17, a buy9 26' },
    run: (events) => events.pipe(sample({ by: (e) => e.who, every: '20m' })),
  },
  sequence: {
    inputs: { events: 'a view 0, b view 6, a cart 12, a view 20, b cart 45' },
    run: (events) =>
      events.pipe(
        sequence({
          by: (e) => e.who,
          steps: { seen: (e) => e.what === 'view', taken: (e) => e.what === 'cart' },
          within: '30m',
        }),
      ),
    show: ({ key }) => ({ key, text: `${key}: seen, taken` }),
  },
  series: {
    inputs: { events: 'a cart 0, b cart 8, b buy 22, a view 60' },
    run: (events) =>
      events.pipe(
        series({
          by: (e) => e.who,
          after: (e) => e.what === 'cart',
          steps: { hello: '5m', tip: '20m', offer: '50m' },
          unless: (e) => e.what === 'buy',
        }),
      ),
    show: ({ key, step }) => ({ key, text: step }),
  },
  join: {
    inputs: { clicks: 'a click 0, b click 10', orders: 'a buy30 20, b buy8 48' },
    run: (clicks, orders) =>
      clicks.pipe(join(orders!, { after: '30m', on: { left: (e) => e.who, right: (e) => e.who } })),
    show: ({ left, right }) => ({ key: left.who, text: `click + buy${right.worth}` }),
  },
  joinLatest: {
    inputs: { events: 'a view 5, a view 25, b view 40', people: 'a Bonn 0, a Ulm 20' },
    run: (events, people) =>
      events.pipe(joinLatest(people!, { ttl: '90d', kind: 'left', on: { left: (e) => e.who, right: (e) => e.who } })),
    show: ({ left, right }) => ({ key: left.who, text: `view + ${right?.what ?? 'null'}` }),
  },
  joinAsOf: {
    inputs: { orders: 'a buy 8, a buy 30', prices: 'a five 0, a six 20' },
    run: (orders, prices) =>
      orders.pipe(joinAsOf(prices!, { history: '90d', on: { left: (e) => e.who, right: (e) => e.who } })),
    show: ({ left, right }) => ({ key: left.who, text: `buy at ${right.what}` }),
  },
  latest: {
    inputs: { events: 'a Bonn 12, a Ulm 4, b Köln 16, a Jena 26' },
    run: (events) => events.pipe(latest({ by: (e) => e.who, ttl: '90d' })),
  },
  rateOf: {
    inputs: { events: 'a view 0, a view 5, b view 9, a view 14, a view 40' },
    run: (events) => events.pipe(rateOf({ by: (e) => e.who, over: '20m' })),
    show: ({ value, count }) => ({ key: value.who, text: `${count}` }),
  },
}

export const drawn = (name: string): boolean => name in DRAWINGS

/** Runs the operator on what is drawn, and draws what it gives, at the event time that it has. */
export async function diagramOf(name: string): Promise<Diagram> {
  const { inputs, run, show = shownValue, call = callOf(name) } = DRAWINGS[name]!
  const lines = Object.entries(inputs).map(
    ([line, text]): Line => ({ name: line, marbles: text.split(', ').map(marbleOf) }),
  )
  const subjects = lines.map(() => new Subject<Doing>())
  const given: Marble[] = []
  let last = 0
  const done = firstValueFrom(
    run(...subjects).pipe(
      rxMap((value) => {
        const { key = keyOf(value), text } = show(value)
        const time = currentEventTime()?.time
        last = time === undefined ? last : time / MINUTE
        given.push({ key: key ?? at.key, text, minute: last })
      }),
      toArray(),
    ),
  )
  let at: Marble = lines[0]!.marbles[0]!
  let newest = 0
  const arrivals = lines.flatMap(({ marbles }, line) => marbles.map((marble) => ({ line, marble })))
  if (lines.length > 1) arrivals.sort((a, b) => a.marble.minute - b.marble.minute)
  for (const { line, marble } of arrivals) {
    at = marble
    newest = Math.max(newest, marble.minute)
    const [, what = '', number = '1'] = /^(\D*)(\d*)$/.exec(marble.text)!
    withEventTime({ time: marble.minute * MINUTE, watermark: newest * MINUTE }, () =>
      subjects[line]!.next({ who: marble.key, what, worth: Number(number || 1) }),
    )
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (const subject of subjects) subject.complete()
  await done
  return {
    title: `A marble diagram of ${name}`,
    inputs: lines,
    call,
    outputs: [{ name: 'gives', marbles: given }],
  }
}

function marbleOf(text: string): Marble {
  const [key, what, minute] = text.split(' ')
  return { key: key!, text: what!, minute: Number(minute) }
}

const keyOf = (value: any): string | undefined => value?.who ?? value?.key

const shownValue = (value: any): { readonly key?: string; readonly text: string } => ({
  text: typeof value === 'object' ? `${value.what}${value.worth > 1 ? value.worth : ''}` : String(value),
})

const TEXT = readFileSync(import.meta.filename, 'utf8')

/** The text of a drawing's operator in this file, on one line, without the `.pipe(…)` around it. */
function callOf(name: string): string {
  const drawing = TEXT.indexOf(`\n  ${name}: {`)
  const from = TEXT.indexOf('.pipe(', drawing) + '.pipe('.length
  let open = 1
  let to = from
  for (; open > 0; to++) {
    if (TEXT[to] === '(') open++
    if (TEXT[to] === ')') open--
  }
  return TEXT.slice(from, to - 1)
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/([([]) /g, '$1')
    .replaceAll(/,? ?([)\]])/g, '$1')
    .replaceAll(/, \}/g, ' }')
    .replace(/,? $/, '')
    .trim()
}
