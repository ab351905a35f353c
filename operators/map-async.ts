import { asyncScheduler, Observable, Subscription } from 'rxjs'
import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { ElementMeta } from '../core/element.ts'
import { MillraceError } from '../core/errors.ts'
import { type AsyncMeta, type AsyncWork, type Named, type Operator, tie } from '../core/operator.ts'
import { currentEventTime, withEventTime } from '../core/standalone.ts'

export interface AsyncOptions extends Named {
  /** Calls under way at once. @default 16 */
  concurrency?: number
  /** Whether answers leave in the order of their records. In a pipeline they always do. @default true */
  ordered?: boolean
  /** How long to wait for one answer. @default '30s' */
  timeout?: Duration
}

/**
 * Gives what `project` answers, as it comes: bounded in concurrency, and in the order of the records.
 *
 * In a pipeline, all answers of an epoch are there before it commits, each with its record's key and time, and no timer
 * downstream overtakes a record that waits here. A rejection, or no answer within `timeout`, makes the record a dead
 * letter; the call's signal aborts. After a crash a call may be made again. Keeps nothing that outlives the epoch.
 *
 * @example
 * ```ts
 * await lastValueFrom(of(1, 2).pipe(mapAsync(async (n) => n * 2), toArray())) // => [2, 4]
 * ```
 */
export function mapAsync<T, R>(
  project: (e: T, meta: AsyncMeta) => PromiseLike<R>,
  options: AsyncOptions = {},
): Operator<T, R> {
  const { name = 'mapAsync', concurrency = 16, ordered = true } = options
  const timeout = milliseconds(options.timeout ?? '30s', `mapAsync "${name}": timeout`)
  if (typeof project !== 'function')
    throw new MillraceError('BAD_OPTION', `mapAsync "${name}" must be given a function, got ${shown(project)}`)
  if (!(Number.isInteger(concurrency) && concurrency > 0)) {
    throw new MillraceError(
      'BAD_OPTION',
      `mapAsync "${name}": concurrency must be a positive whole number, got ${shown(concurrency)}`,
    )
  }
  const work = { concurrency, ordered, timeout, call: project }
  return tie<T, R, {}>((source) => onPlain(source, work, name), { kind: 'mapAsync', name, work })
}

interface Call<R> {
  readonly time: ReturnType<typeof currentEventTime>
  answer: { readonly value: R } | undefined
}

function onPlain<T, R>(
  source: Observable<T>,
  { concurrency, ordered, timeout, call }: AsyncWork<T, R>,
  name: string,
): Observable<R> {
  return new Observable((to) => {
    const waiting: (() => void)[] = []
    const under: Call<R>[] = []
    let active = 0
    let ended = false
    let position = 0
    const give = (made: Call<R>) => withEventTime(made.time, () => to.next(made.answer!.value))
    const settle = () => {
      while (under[0]?.answer && !to.closed) give(under.shift()!)
      if (ended && under.length === 0) to.complete()
    }
    const begin = (value: T, made: Call<R>) => {
      active++
      const controller = new AbortController()
      const now = asyncScheduler.now()
      const meta = new ElementMeta()
      meta.record(name, 0, position++, now)
      meta.time = made.time?.time ?? now
      const alarm = asyncScheduler.schedule(() => {
        to.error(new MillraceError('TIMED_OUT', `${name}: no answer within ${timeout} ms`))
      }, timeout)
      const release = new Subscription(() => {
        alarm.unsubscribe()
        controller.abort()
      })
      to.add(release)
      Promise.resolve()
        .then(() => call(value, Object.assign(meta, { signal: controller.signal })))
        .then(
          (answer) => {
            if (to.closed) return
            alarm.unsubscribe()
            to.remove(release)
            active--
            made.answer = { value: answer }
            if (!ordered) give(under.splice(under.indexOf(made), 1)[0]!)
            if (to.closed) return
            waiting.shift()?.()
            settle()
          },
          (error) => to.error(error),
        )
    }
    return source.subscribe({
      next(value) {
        const made: Call<R> = { time: currentEventTime(), answer: undefined }
        under.push(made)
        if (active < concurrency) begin(value, made)
        else waiting.push(() => begin(value, made))
      },
      error: (error) => to.error(error),
      complete() {
        ended = true
        settle()
      },
    })
  })
}
