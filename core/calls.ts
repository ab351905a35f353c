import { ElementMeta } from './element.ts'
import { MillraceError } from './errors.ts'
import type { AsyncMeta, AsyncWork } from './operator.ts'
import type { Runtime } from './runtime.ts'

/** An alarm that comes so many milliseconds late tells of a process that was stopped, or had no turn. */
const STOOD_STILL = 1_000

/** What came of a call. */
export type Answer = { readonly value: unknown } | { readonly error: unknown }

/** A call, which is also the meta that it is made with: its signal is made when somebody asks for it. */
class Call extends ElementMeta implements AsyncMeta {
  readonly given: unknown
  readonly settle: (answer: Answer) => void
  /** When it is given up, by the runtime's `elapsed`. */
  limit = 0
  private controller: AbortController | undefined

  constructor(given: unknown, settle: (answer: Answer) => void) {
    super()
    this.given = given
    this.settle = settle
  }

  get signal(): AbortSignal {
    this.controller ??= new AbortController()
    return this.controller.signal
  }

  abort(reason: unknown): void {
    // who asks for the signal later finds it aborted
    void this.signal
    this.controller!.abort(reason)
  }
}

/** The calls of one asynchronous operator while an epoch runs: so many at once, and none for longer than its time. */
export class Calls {
  private readonly name: string
  private readonly work: AsyncWork<unknown, unknown>
  private readonly runtime: Runtime
  /** In the order of their deadlines, as all have the same time. */
  private readonly underWay = new Set<Call>()
  private waiting: Call[] = []
  private watching: AbortController | undefined

  constructor(name: string, work: AsyncWork<unknown, unknown>, runtime: Runtime) {
    this.name = name
    this.work = work
    this.runtime = runtime
  }

  /** Makes a call, now or when one of those under way has its answer. `settle` is called once, and never at once. */
  ask(value: unknown, meta: ElementMeta, key: string, settle: (answer: Answer) => void): void {
    const call = new Call(value, settle)
    call.copy(meta)
    call.key = key
    if (this.underWay.size < this.work.concurrency) this.begin(call)
    else this.waiting.push(call)
  }

  /** Aborts what is under way; no answer is heard any more. */
  abandon(): void {
    this.watching?.abort('abandoned')
    this.waiting = []
    for (const call of this.underWay) call.abort('the epoch was given up')
    this.underWay.clear()
  }

  private begin(call: Call): void {
    this.underWay.add(call)
    call.limit = this.runtime.elapsed() + this.work.timeout
    // in a turn of its own: what is pushed through the flow now is not the caller's to wait for
    Promise.resolve()
      .then(() => this.work.call(call.given, call))
      .then(
        (value) => this.end(call, { value }),
        (error: unknown) => this.end(call, { error }),
      )
    if (this.watching === undefined) void this.watch()
  }

  private end(call: Call, answer: Answer): void {
    if (!this.underWay.delete(call)) return
    const next = this.waiting.shift()
    if (next) this.begin(next)
    call.settle(answer)
  }

  /** Gives up calls whose time is over: one alarm for all. */
  private async watch(): Promise<void> {
    const watching = new AbortController()
    this.watching = watching
    while (this.underWay.size > 0) {
      const [oldest] = this.underWay
      const left = oldest!.limit - this.runtime.elapsed()
      if (left > 0) {
        await this.runtime.sleep(left, watching.signal)
        if (watching.signal.aborted) return
        continue
      }
      if (-left > STOOD_STILL) {
        // nobody listened meanwhile: answers may be there
        for (const call of this.underWay) call.limit += STOOD_STILL - left
        continue
      }
      // what has come in the meantime is heard first
      await this.runtime.yield()
      if (watching.signal.aborted) return
      if (!this.underWay.has(oldest!)) continue
      const error = new MillraceError('TIMED_OUT', `${this.name}: no answer within ${this.work.timeout} ms`)
      oldest!.abort(error)
      this.end(oldest!, { error })
    }
    this.watching = undefined
  }
}
