import type { Findings } from './finding.ts'
import { CLOCKS_AND_CHANCE } from './remedies.ts'
import { closing, lineAt, type SourceText } from './source-text.ts'

/** RxJS operators that keep something between records or go by a clock of their own, and what does that in a pipeline. */
const RXJS: Readonly<Record<string, string>> = {
  scan: 'scan of millrace/operators, with a ttl',
  reduce: 'scan of millrace/operators: a pipeline has no end',
  count: 'scan of millrace/operators: a pipeline has no end',
  toArray: 'scan of millrace/operators, which keeps a list a key: a pipeline has no end',
  max: 'scan of millrace/operators: a pipeline has no end',
  min: 'scan of millrace/operators: a pipeline has no end',
  pairwise: 'scan of millrace/operators, with the last record as its state',
  distinct: 'dedup of millrace/operators',
  distinctUntilChanged: 'scan of millrace/operators, or dedup',
  bufferCount: 'scan of millrace/operators, which keeps a list a key',
  bufferTime: 'a window by event time, or scan of millrace/operators',
  buffer: 'scan of millrace/operators',
  windowTime: 'a window by event time of millrace/operators',
  windowCount: 'scan of millrace/operators',
  debounceTime: 'absence of millrace/operators: what was not followed by another, by event time',
  debounce: 'absence of millrace/operators: what was not followed by another, by event time',
  throttleTime: 'dedup of millrace/operators: the first of a key within a time, by event time',
  throttle: 'dedup of millrace/operators: the first of a key within a time, by event time',
  auditTime: 'dedup or absence of millrace/operators, which go by event time',
  sampleTime: 'scan of millrace/operators',
  delay: 'absence of millrace/operators, which waits by event time',
  timeout: 'absence of millrace/operators, which tells what did not come',
  take: 'filter of millrace/operators: a pipeline goes on',
  first: 'filter of millrace/operators: a pipeline goes on',
  last: 'scan of millrace/operators: a pipeline has no end',
  skip: 'filter or scan of millrace/operators',
  takeUntil: 'filter of millrace/operators: a pipeline goes on',
  takeWhile: 'filter of millrace/operators: a pipeline goes on',
  startWith: 'flatMap of millrace/operators: a flow begins anew at every epoch',
  endWith: 'flatMap of millrace/operators: a flow ends at every epoch',
  mergeMap: 'mapAsync of millrace/operators for calls, flatMap for lists',
  concatMap: 'mapAsync of millrace/operators for calls, flatMap for lists',
  switchMap: 'mapAsync of millrace/operators for calls, flatMap for lists',
  exhaustMap: 'mapAsync of millrace/operators for calls, flatMap for lists',
  withLatestFrom: 'merge, and scan of millrace/operators, which keep the latest a key',
  combineLatestWith: 'merge, and scan of millrace/operators, which keep the latest a key',
  zipWith: 'merge, and scan of millrace/operators',
  groupBy: 'the key of the source: every operator with state works a key',
  share: 'the stream itself: it may be used as often as one likes',
  shareReplay: 'the stream itself: it may be used as often as one likes',
  retry: 'nothing: the engine retries, and sets what cannot be done aside',
  repeat: 'nothing: the engine reads on',
  catchError: 'nothing: a record that throws becomes a dead letter, and the others go on',
  timestamp: 'map of millrace/operators with meta.time, or meta.now()',
  timeInterval: 'scan of millrace/operators with meta.time',
}

/** What takes a function that must answer at once. */
const SYNCHRONOUS = ['map', 'filter', 'flatMap', 'tap']
const FUNCTIONS = 'key|time|by|step|emit|after|unless|test|recipient|event|cause|properties|value|version|deleted'

/** What can be seen in the text, whether or not a record of the sample comes there. */
export function textRules(sources: readonly SourceText[], findings: Findings): void {
  for (const source of sources) {
    const { file, text, code } = source
    const at = (index: number) => ({ file, line: lineAt(text, index) })
    const flows = spans(code, /\.(?:pipe|to)\s*\(/g)
    const calls = spans(code, /\b(?:mapAsync|enrich|score)\s*(?:<[^()]*>)?\(/g)
    const inFlow = (index: number) =>
      flows.some(([from, to]) => index >= from && index < to) &&
      !calls.some(([from, to]) => index >= from && index < to)

    for (const [local, name] of importedFromRxjs(text)) {
      const instead = RXJS[name]
      if (instead === undefined) continue
      for (const { index } of code.matchAll(
        new RegExp(`(?<![\\w.])${local.replace('.', '\\.')}\\s*(?:<[^()]*>)?\\(`, 'g'),
      )) {
        if (!inFlow(index)) continue
        findings.add({
          code: 'RXJS_STATE',
          place: at(index),
          operator: name,
          problem: `${name} of RxJS keeps what it knows, or its clock, in memory: it is lost at every epoch and every restart, and what it holds back with it`,
          instead: `use ${instead}`,
        })
      }
    }
    const rxjs = new Set(importedFromRxjs(text).map(([local]) => local))
    for (const name of SYNCHRONOUS.filter((each) => !rxjs.has(each))) {
      for (const { index } of code.matchAll(new RegExp(`(?<![\\w.])${name}\\s*\\(\\s*async\\b`, 'g')))
        promised(name, index)
    }
    for (const match of code.matchAll(new RegExp(`\\b(${FUNCTIONS})\\s*:\\s*async\\b`, 'g')))
      promised(match[1]!, match.index)
    function promised(name: string, index: number): void {
      findings.add({
        code: 'PROMISE',
        place: at(index),
        operator: name,
        problem:
          name === 'filter'
            ? 'filter is given an async function: its promise always counts as yes, so that everything passes'
            : `${name} is given an async function: what comes out is a promise, and not its value`,
        instead: 'ask with mapAsync before, and look at its answer here',
      })
    }
    for (const { pattern, code: kind, what, instead } of CLOCKS_AND_CHANCE) {
      for (const { index } of code.matchAll(pattern)) {
        if (!inFlow(index)) continue
        findings.add({ code: kind, place: at(index), problem: `${what} is asked within the flow: ${WHY}`, instead })
      }
    }
  }
}

/** What goes wrong with what differs from attempt to attempt. */
export const WHY = 'an attempt after a crash, a replay and a test get other answers than the first attempt'

function spans(code: string, opening: RegExp): [number, number][] {
  return [...code.matchAll(opening)].map((match) => {
    const from = match.index + match[0].length
    return [from, closing(code, from)]
  })
}

/** What is called how: `scan`, `rxScan` (an alias), `rx.scan` (a namespace). */
function importedFromRxjs(text: string): [local: string, name: string][] {
  return [...text.matchAll(/^import\s+([^'"]*?)\s+from\s+['"]rxjs(?:\/operators)?['"]/gm)].flatMap(
    ([, clause = '']) => {
      const space = /\*\s+as\s+(\w+)/.exec(clause)?.[1]
      if (space !== undefined) return Object.keys(RXJS).map((name): [string, string] => [`${space}.${name}`, name])
      return clause
        .replace(/[{}]/g, '')
        .split(',')
        .map((part) => part.trim().split(/\s+as\s+/))
        .map(([name = '', local = name]): [string, string] => [local, name])
    },
  )
}
