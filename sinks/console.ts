import { inspect } from 'node:util'
import { shown } from '../core/duration.ts'
import { MillraceError, messageOf } from '../core/errors.ts'
import type { Encoder, Outcome, Sink } from '../core/sink.ts'

export interface ConsoleOptions {
  /** One JSON value a line, or for people: the event time in UTC, the key, and the value over several lines. @default 'json' */
  format?: 'json' | 'pretty'
  /** What messages call the sink. @default 'console' */
  name?: string
}

/**
 * Prints rows, to look at a pipeline at work.
 *
 * A ledger sink, at least once: a terminal cannot tell whether it has shown a row, so after a crash between printing and
 * the answer a batch is printed again. Rows go to standard output, or with `MILLRACE_JSON=1`, when standard output
 * belongs to the command's own JSON, to standard error. The pipeline waits for who reads them.
 *
 * @throws MillraceError BAD_OPTION when an option is not of its form
 *
 * @example
 * ```ts
 * events.to(console({ format: 'pretty' }))
 * ```
 */
export function console<T>({ format = 'json', name = 'console' }: ConsoleOptions = {}): Sink<T> {
  const where = `console ${JSON.stringify(name)}`
  if (format !== 'json' && format !== 'pretty') {
    throw new MillraceError('BAD_OPTION', `${where}: format must be 'json' or 'pretty', got ${shown(format)}`)
  }
  const encoder: Encoder<T> = {
    head: JSON.stringify({ format }),
    row(value, { time, key }) {
      if (format === 'pretty') return `${moment(time)} ${key}\n  ${inspect(value, LOOK).replaceAll('\n', '\n  ')}\n`
      const text: string | undefined = JSON.stringify(value)
      if (text === undefined) throw new MillraceError('NOT_JSON', `${where}: a row must be JSON, got ${shown(value)}`)
      return `${text}\n`
    },
  }
  return {
    kind: 'console',
    guarantee: 'ledger',
    touches: 'state',
    async open({ env }) {
      const [stream, identity] =
        env.MILLRACE_JSON === '1' ? [process.stderr, 'console: stderr'] : [process.stdout, 'console: stdout']
      // A reader that went away is the write's outcome; without a listener it would end the process.
      const heard = () => undefined
      stream.on('error', heard)
      return {
        identity,
        limit: { bytes: 1_048_576 },
        encoder: () => encoder,
        deliver({ body }, signal): Promise<Outcome> {
          if (signal.aborted)
            return Promise.resolve({ kind: 'notSent', reason: `${where}: given up before it was printed` })
          return new Promise((resolve) => {
            const settle = (outcome: Outcome) => {
              signal.removeEventListener('abort', abort)
              resolve(outcome)
            }
            const abort = () => settle({ kind: 'unknown', reason: `${where}: nobody has read it yet` })
            signal.addEventListener('abort', abort)
            stream.write(body, (error) =>
              settle(error ? { kind: 'unknown', reason: `${where}: ${messageOf(error)}` } : { kind: 'applied' }),
            )
          })
        },
        async close() {
          stream.off('error', heard)
        },
      }
    },
  }
}

/** How a value is laid out: whole, so that a row is the same wherever it is made. */
const LOOK = { depth: 8, breakLength: 100, maxArrayLength: 100, maxStringLength: 10_000, colors: false } as const

const moment = (time: number) => (Math.abs(time) <= 8_640_000_000_000_000 ? new Date(time).toISOString() : '-')
