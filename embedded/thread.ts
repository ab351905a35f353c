import { parentPort, Worker, workerData } from 'node:worker_threads'

/** A module that runs on a thread of its own and answers calls, one after the other. */
export interface Thread {
  /**
   * Calls a method of the thread's. Arguments and results are copied.
   *
   * @throws ThreadError what the method threw; without a `code` of its own when the thread died, which leaves open
   * whether the call took effect. The next call starts the thread again.
   */
  call<R>(method: string, argument?: unknown): Promise<R>
  /** Calls the method `close`, if the thread runs, and ends it. Further calls fail. */
  close(): Promise<void>
}

/** What went wrong on a thread, with the code that the error had there. */
export class ThreadError extends Error {
  override readonly name = 'ThreadError'
  readonly code: string | undefined

  constructor(message: string, code: string | undefined) {
    super(message)
    this.code = code
  }
}

/** Whether SQLite, on a thread, surely undid what it was asked: it was full, busy, or could not write; not an I/O error. */
export const rolledBack = (error: unknown): boolean =>
  error instanceof ThreadError && /^SQLITE_(?!10$)/.test(error.code ?? '')

type Request = { readonly id: number; readonly method: string; readonly argument: unknown }
type Answer = { readonly id: number; readonly value?: unknown; readonly error?: { message: string; code?: string } }

/**
 * A thread that runs `module`, which calls {@link serve}. It starts with the first call, and does not keep the process
 * alive while no call is open.
 *
 * @param data what `serve` gives its methods' maker
 */
export function thread(module: URL, data: unknown): Thread {
  const open = new Map<number, { resolve(value: any): void; reject(error: Error): void }>()
  let worker: Worker | undefined
  let closed = false
  let last = 0

  const start = () => {
    const started = new Worker(module, { workerData: data })
    const died = (reason: string) => {
      if (worker !== started) return
      worker = undefined
      for (const call of open.values()) call.reject(new ThreadError(reason, undefined))
      open.clear()
    }
    started.on('message', ({ id, value, error }: Answer) => {
      const call = open.get(id)
      open.delete(id)
      if (open.size === 0) started.unref()
      if (error) call?.reject(new ThreadError(error.message, error.code))
      else call?.resolve(value)
    })
    started.on('error', (error) => died(error instanceof Error ? error.message : String(error)))
    started.on('exit', () => died('the thread ended'))
    return started
  }

  const call = <R>(method: string, argument?: unknown) =>
    new Promise<R>((resolve, reject) => {
      worker ??= start()
      worker.ref()
      const id = ++last
      open.set(id, { resolve, reject })
      worker.postMessage({ id, method, argument } satisfies Request)
    })

  return {
    call: (method, argument) =>
      closed ? Promise.reject(new ThreadError('it is closed', 'CLOSED')) : call(method, argument),
    async close() {
      if (closed) return
      closed = true
      if (!worker) return
      await call('close').catch(() => undefined)
      await worker?.terminate()
    },
  }
}

/** The thread's side: makes its methods from the thread's data, and answers calls with them. `close` is one of them. */
export function serve<D>(make: (data: D) => { close(): void; [method: string]: (argument: any) => unknown }): void {
  const failure = (id: number, thrown: unknown): Answer => {
    const { message, code, errcode } = thrown as { message?: string; code?: string; errcode?: number }
    const name = typeof errcode === 'number' ? `SQLITE_${errcode & 0xff}` : code
    return { id, error: { message: message ?? String(thrown), ...(name === undefined ? {} : { code: name }) } }
  }
  let methods: ReturnType<typeof make> | undefined
  parentPort?.on('message', ({ id, method, argument }: Request) => {
    try {
      // Made with the first call, so that what goes wrong is that call's answer, and the next call tries again.
      if (method === 'close' && !methods) return parentPort?.postMessage({ id } satisfies Answer)
      methods ??= make(workerData as D)
      const value = methods[method]?.(argument)
      parentPort?.postMessage({ id, value } satisfies Answer)
    } catch (thrown) {
      parentPort?.postMessage(failure(id, thrown))
    }
  })
}
