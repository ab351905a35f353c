import { type Transferable, Worker } from 'node:worker_threads'
import { MillraceError } from '../core/errors.ts'
import { posted, type Reply, received, type Started } from './messages.ts'

/** One of the store's threads, as it is seen from here. */
export interface Link<T> {
  readonly started: Promise<T>
  /** @throws MillraceError what the thread answered, or that it is gone */
  ask<T>(request: { kind: string; [field: string]: unknown }, transfer?: ArrayBuffer[]): Promise<T>
  /** Lets the thread end what is under way, and close. */
  end(): Promise<void>
}

/** Starts a thread of this folder: `file` is its name without the ending, `what` is what messages call the store. */
export function link<T>(
  file: string,
  data: object,
  { what, transfer: transferList = [] }: { what: string; transfer?: Transferable[] },
): Link<T> {
  const here = import.meta.url
  const worker = new Worker(new URL(`./${file}${here.endsWith('.ts') ? '.ts' : '.js'}`, here), {
    name: `millrace ${file}`,
    workerData: data,
    transferList,
  })
  const waiting = new Map<number, { resolve: (value: any) => void; reject: (error: MillraceError) => void }>()
  let last = 0
  let gone: MillraceError | undefined
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  let start!: (message: Started<T>) => void
  const started = new Promise<T>((resolve, reject) => {
    start = (message) => ('ready' in message ? resolve(message.ready) : reject(received(message.error)))
  })
  started.catch(() => undefined)

  function lose(error: MillraceError): void {
    gone ??= error
    start({ error: posted(gone) })
    for (const { reject } of waiting.values()) reject(gone)
    waiting.clear()
  }

  worker.on('message', (message: Started<T> | readonly Reply[]) => {
    if (!Array.isArray(message)) return start(message as Started<T>)
    for (const reply of message as readonly Reply[]) {
      const asked = waiting.get(reply.id)
      waiting.delete(reply.id)
      if ('error' in reply) asked?.reject(received(reply.error))
      else asked?.resolve(reply.value)
    }
  })
  worker.once('error', (thrown) => {
    lose(
      new MillraceError('INTERNAL', `${what}: its thread failed: ${posted(thrown).message}. Start again`, {
        cause: thrown,
      }),
    )
  })
  worker.once('exit', () => lose(closedError(what)))

  return {
    started,
    ask(request, transfer = []) {
      if (gone) return Promise.reject(gone)
      last += 1
      const id = last
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject })
        worker.postMessage({ ...request, id }, transfer)
      })
    },
    async end() {
      if (gone === undefined) await this.ask({ kind: 'close' }).catch(() => undefined)
      await exited
    },
  }
}

/** What is answered to those who ask a store that was closed. */
export function closedError(what: string): MillraceError {
  return new MillraceError('INTERNAL', `${what}: the store is closed. Open it again`)
}
