const WATCHER = Symbol.for('millrace.watcher')

/** Told of each part of a pipeline when it is made, from within the call that makes it: its stack has the author's line. */
export type Watcher = (part: object, options: object | undefined) => void

/** Says who is told of parts from now on; nobody, without one. For all copies of Millrace in the process. */
export function watchMade(watcher: Watcher | undefined): void {
  ;(globalThis as { [WATCHER]?: Watcher | undefined })[WATCHER] = watcher
}

/** Gives the part that was made, and tells who watches: `millrace check`, otherwise nobody. */
export function made<P extends object>(part: P, options?: object): P {
  ;(globalThis as { [WATCHER]?: Watcher | undefined })[WATCHER]?.(part, options)
  return part
}
