import type { Observable } from 'rxjs'
import { shown } from '../../core/duration.ts'
import { MillraceError } from '../../core/errors.ts'
import type { JoinKeys, Named } from '../../core/operator.ts'
import type { Stream } from '../../core/stream.ts'

/** A record of the left stream with one of the right. */
export interface Joined<L, R> {
  readonly left: L
  readonly right: R
}

export type Maybe<R, K, On> = K extends On ? R | null : R

export interface JoinNamed<L, R> extends Named {
  /** What must be equal beside the streams' keys. Outside a pipeline it is the key. @default nothing */
  on?: JoinKeys<L, R>
}

/** The other side of a join: a stream in a pipeline, an Observable outside. */
export type Right<R> = Stream<R> | Observable<R>

/** @throws MillraceError BAD_OPTION */
export function checkJoin(
  where: string,
  right: unknown,
  on: JoinKeys<any, any> | undefined,
  kind: unknown,
  kinds: readonly string[],
): void {
  if (typeof (right as { pipe?: unknown } | null | undefined)?.pipe !== 'function')
    throw new MillraceError('BAD_OPTION', `${where} must be given a stream to join, got ${shown(right)}`)
  if (on !== undefined && (typeof on?.left !== 'function' || typeof on?.right !== 'function'))
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: on must be { left, right }, a function of each side's record, got ${shown(on)}`,
    )
  if (!kinds.includes(kind as string))
    throw new MillraceError(
      'BAD_OPTION',
      `${where}: kind must be ${kinds.map((each) => `'${each}'`).join(' or ')}, got ${shown(kind)}`,
    )
}
