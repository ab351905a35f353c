import { ERROR_CODES, MillraceError, messageOf } from '../core/errors.ts'

/** Prints what went wrong as one line, and gives the exit code that stands for it. */
export function report(error: unknown): number {
  if (error instanceof MillraceError) {
    process.stderr.write(`error ${error.code}: ${error.message}\n`)
    if (process.env.MILLRACE_DEBUG) process.stderr.write(`${error.stack}\n`)
    return ERROR_CODES[error.code].exit
  }
  process.stderr.write(`error INTERNAL: ${messageOf(error)} (MILLRACE_DEBUG=1 shows where)\n`)
  if (process.env.MILLRACE_DEBUG) process.stderr.write(`${(error as Error)?.stack}\n`)
  return ERROR_CODES.INTERNAL.exit
}
