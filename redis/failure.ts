import { messageOf } from '../core/errors.ts'

/** What an error of the client says of a command. */
export interface RedisFailure {
  /**
   * `notSent`: it never left. `refused`: the server answered that it did not do it. `unknown`: it may have been done, or
   * still may be.
   */
  readonly kind: 'notSent' | 'refused' | 'unknown'
  /** The word that a refusal begins with, as in `OOM`; of other failures, the system's, as in `ECONNREFUSED`. */
  readonly code: string
  /** What to say of it, with what to do where that is known. */
  readonly reason: string
}

/** Thrown in place of what a connection that never came about answered. */
export class NotReached extends Error {}

/** Refusals that pass, or that an operator mends, without a change of what was sent; with what to do. */
const HINTS: ReadonlyMap<string, string> = new Map([
  ['OOM', 'it is at its maxmemory: give it more, or remove what is not needed'],
  ['READONLY', 'it is a replica: name the primary, or wait for the failover to end'],
  ['LOADING', 'it is reading its data from the disk'],
  ['MISCONF', 'it cannot write to its disk: see its log'],
  ['NOREPLICAS', 'fewer replicas follow it than min-replicas-to-write asks for'],
  ['MASTERDOWN', 'it is a replica that has lost its primary'],
  ['CLUSTERDOWN', 'a part of the cluster is down'],
  ['TRYAGAIN', 'a slot of the cluster is moving'],
  ['MOVED', 'a slot of the cluster has moved'],
  ['ASK', 'a slot of the cluster is moving'],
  ['BUSY', 'a script of somebody else runs for too long'],
  ['NOAUTH', 'it asks for a password: see REDIS_USER and REDIS_PASSWORD'],
  ['WRONGPASS', 'user or password are wrong: see REDIS_USER and REDIS_PASSWORD'],
  ['NOPERM', 'the user lacks a right: see its access list'],
  ['WRONGTYPE', 'the key holds another kind of value, which another program wrote'],
])

/** Nothing of a command has left when the client says this. */
const UNWRITTEN =
  /Stream isn't writeable|Cluster is ended|None of startup nodes is available|Failed to refresh slots cache/

export function redisFailure(error: unknown): RedisFailure {
  const text = messageOf(error)
  const code = (error as { code?: unknown } | undefined)?.code
  if (error instanceof NotReached || UNWRITTEN.test(text)) {
    const word = /^[A-Z]+\b/.exec(text)?.[0] ?? ''
    const hint = HINTS.get(word)
    return {
      kind: 'notSent',
      code: hint ? word : typeof code === 'string' ? code : 'CLOSED',
      reason: `not reached: ${hint ? `${word}: ${hint}` : text.slice(0, 200)}`,
    }
  }
  const refusal = refusalOf(error, text)
  if (refusal !== undefined) {
    const hint = HINTS.get(refusal)
    return { kind: 'refused', code: refusal, reason: hint ? `${refusal}: ${hint}` : text.slice(0, 200) }
  }
  return { kind: 'unknown', code: typeof code === 'string' ? code : 'LOST', reason: `no answer: ${text.slice(0, 200)}` }
}

const MENDED_BY_SOMEBODY = new Set(['OOM', 'MISCONF', 'NOAUTH', 'WRONGPASS', 'NOPERM', 'WRONGTYPE'])

/** Whether a refusal ends by itself within a while, as at a start or a failover. */
export function passes(code: string): boolean {
  return HINTS.has(code) && !MENDED_BY_SOMEBODY.has(code)
}

/** A server's own answer; older ones wrap a script's in a text of their own, and the client wraps one that was sent on. */
function refusalOf(error: unknown, text: string): string | undefined {
  const name = (error as { name?: unknown } | undefined)?.name
  if (name !== 'ReplyError' && !/Too many Cluster redirections\. Last error: ReplyError/.test(text)) return undefined
  const first = /^[A-Z]+\b/.exec(text)?.[0]
  if (first !== undefined && first !== 'ERR') return first
  for (const word of HINTS.keys()) if (new RegExp(`\\b${word}\\b`).test(text)) return word
  return first ?? 'ERR'
}
