import { serve } from '../../embedded/thread.ts'

/** A thread for tests: it echoes, throws, dies, and counts its calls since it began. */
serve(({ name }: { name: string }) => {
  if (name === '') throw new Error('no name')
  let calls = 0
  return {
    echo: (argument: unknown) => [name, ++calls, argument],
    fail: () => {
      throw Object.assign(new Error('as told'), { errcode: 13 })
    },
    die: () => process.exit(1),
    crash: () => void setImmediate(() => Promise.reject(new Error('crashed'))),
    close: () => undefined,
  }
})
