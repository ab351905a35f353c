import type { FindingCode } from './finding.ts'

interface Remedy {
  /** How it looks in a text. */
  readonly pattern: RegExp
  readonly code: FindingCode & ('WALL_CLOCK' | 'CHANCE')
  readonly what: string
  readonly instead: string
}

export const NOW =
  'meta.time is when it happened, meta.now() when it arrived: meta is the second argument of every function'
const RANDOM = 'meta.random() draws the same for the same record: meta is the second argument of every function'
const NAME = 'meta.id() gives the same name for the same record: meta is the second argument of every function'

/** The machine's clocks and its randomness, and what gives the same at every attempt. */
export const CLOCKS_AND_CHANCE: readonly Remedy[] = [
  { pattern: /\bDate\.now\s*\(/g, code: 'WALL_CLOCK', what: 'Date.now()', instead: NOW },
  { pattern: /\bnew Date\s*\(\s*\)/g, code: 'WALL_CLOCK', what: 'new Date()', instead: NOW },
  { pattern: /\bperformance\.now\s*\(/g, code: 'WALL_CLOCK', what: 'performance.now()', instead: NOW },
  { pattern: /\bMath\.random\s*\(/g, code: 'CHANCE', what: 'Math.random()', instead: RANDOM },
  { pattern: /\brandomUUID\s*\(/g, code: 'CHANCE', what: 'crypto.randomUUID()', instead: NAME },
  { pattern: /\brandomBytes\s*\(/g, code: 'CHANCE', what: 'crypto.randomBytes()', instead: RANDOM },
  { pattern: /\brandomInt\s*\(/g, code: 'CHANCE', what: 'crypto.randomInt()', instead: RANDOM },
  { pattern: /\bgetRandomValues\s*\(/g, code: 'CHANCE', what: 'crypto.getRandomValues()', instead: RANDOM },
]

export function remedyOf(what: string): string {
  return CLOCKS_AND_CHANCE.find((remedy) => remedy.what === what)!.instead
}
