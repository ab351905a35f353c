import { MillraceError, messageOf } from './errors.ts'
import type { Logger } from './logger.ts'
import type { Runtime } from './runtime.ts'

/** Milliseconds that a system may take to come up: pipelines and their systems are started together. */
const PATIENCE = 30_000

/** Opens a source or a sink; a failure that may go by is tried again for a while. */
export async function patiently<O>(open: () => Promise<O>, runtime: Runtime, logger: Logger): Promise<O> {
  const end = runtime.elapsed() + PATIENCE
  for (let wait = 250; ; wait *= 2) {
    try {
      return await open()
    } catch (error) {
      const retriable = error instanceof MillraceError && error.retriable
      if (!retriable || runtime.elapsed() + wait > end) throw error
      logger.warn({ retryIn: wait }, `${messageOf(error)}; trying again`)
      await runtime.sleep(wait * (0.5 + runtime.random() / 2))
    }
  }
}
