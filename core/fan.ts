import { Observable, Subscriber } from 'rxjs'

/**
 * Gives a value to all that have subscribed, in their order, as an RxJS Subject does; but what one of them throws
 * reaches the caller, who knows which record it belongs to, instead of the process.
 */
export class Fan {
  readonly stream = new Observable<unknown>((to) => {
    this.takers = [...this.takers, to]
    return () => {
      this.takers = this.takers.filter((taker) => taker !== to)
    }
  })
  private takers: readonly Subscriber<unknown>[] = []

  next(value: unknown): void {
    const { takers } = this
    for (let i = 0; i < takers.length; i++) takers[i]!.next(value)
  }

  error(error: unknown): void {
    for (const taker of this.takers) taker.error(error)
  }

  complete(): void {
    for (const taker of this.takers) taker.complete()
  }

  /** Subscribes it to a stream. */
  listen(stream: Observable<unknown>): void {
    stream.subscribe(new Listener(this))
  }
}

class Listener extends Subscriber<unknown> {
  private readonly fan: Fan

  constructor(fan: Fan) {
    super()
    this.fan = fan
  }

  protected override _next(value: unknown): void {
    this.fan.next(value)
  }

  protected override _error(error: unknown): void {
    this.fan.error(error)
  }

  protected override _complete(): void {
    this.fan.complete()
    this.unsubscribe()
  }
}
