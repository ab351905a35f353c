import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import type { RedisClient, RedisConnection } from '../redis/connection.ts'
import { passes, type RedisFailure, redisFailure } from '../redis/failure.ts'

/** How a request ended. `silent`: patience ended first; with `doubt`, an attempt may have been applied, or still may be. */
export type Answer<T> =
  | { readonly kind: 'answered'; readonly value: T }
  | { readonly kind: 'refused'; readonly failure: RedisFailure }
  | { readonly kind: 'silent'; readonly failure: RedisFailure; readonly doubt: boolean }

export interface Asking {
  /** Asks until there is an answer: the request must be safe to be applied twice, also late. */
  ask<T>(request: (client: RedisClient) => Promise<T>): Promise<Answer<T>>
  /**
   * The answer itself.
   *
   * @throws MillraceError STATE_FAILED, DISK_FULL
   */
  told<T>(request: (client: RedisClient) => Promise<T>): Promise<T>
  /** From here on, nothing is asked twice. */
  hurry(): void
}

/** Milliseconds between attempts: from the first to the longest. */
const PAUSE = { first: 25, longest: 1_000 } as const

/** What a server answers to somebody whom it does not let in. */
const SHUT_OUT = new Set(['NOAUTH', 'WRONGPASS'])

/** @param place what messages call the store */
export function asking(connection: RedisConnection, runtime: Runtime, place: string, patience: number): Asking {
  let hurried = false

  async function ask<T>(request: (client: RedisClient) => Promise<T>): Promise<Answer<T>> {
    const since = runtime.elapsed()
    let doubt = false
    for (let attempt = 0; ; attempt++) {
      let client: RedisClient | undefined
      try {
        client = await connection.client()
        return { kind: 'answered', value: await request(client) }
      } catch (error) {
        const failure = redisFailure(error)
        // A server that answers is asked again on a new connection when another one may stand at its address by then.
        if (client && (failure.kind !== 'refused' || passes(failure.code))) connection.drop(client)
        doubt ||= failure.kind === 'unknown'
        const answered = failure.kind === 'refused' || SHUT_OUT.has(failure.code)
        if (answered && !doubt && !passes(failure.code)) return { kind: 'refused', failure }
        if (hurried || runtime.elapsed() - since >= patience) return { kind: 'silent', failure, doubt }
      }
      await runtime.sleep(
        Math.min(PAUSE.longest, PAUSE.first * 2 ** Math.min(attempt, 8)) * (0.5 + runtime.random() / 2),
      )
    }
  }

  return {
    ask,
    async told(request) {
      const answer = await ask(request)
      if (answer.kind === 'answered') return answer.value
      throw storeError(place, answer.failure)
    },
    hurry() {
      hurried = true
    },
  }
}

/** A failure of the store's Redis, with what it means for the pipeline. */
export function storeError(place: string, { kind, code, reason }: RedisFailure): MillraceError {
  if (code === 'OOM' || code === 'MISCONF') {
    return new MillraceError(
      'DISK_FULL',
      `the state store ${place}: ${reason}. Nothing was lost, and the work goes on then`,
      {
        retriable: true,
      },
    )
  }
  const retriable = kind !== 'refused' || passes(code)
  return new MillraceError('STATE_FAILED', `the state store ${place}: ${reason}`, { retriable })
}
