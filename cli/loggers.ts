import { pino } from 'pino'
import type { Logger } from '../core/logger.ts'
import { LOG_LEVELS, type LogLevel } from './defaults.ts'
import type { LiveLine } from './progress.ts'
import { plain, type Terminal } from './terminal.ts'

/** Logs as JSON lines on standard error, for machines; standard output is left to results. */
export function jsonLogger(level: LogLevel): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (name) => ({ level: name }) },
    },
    pino.destination({ dest: 2, sync: true }),
  )
}

/** Logs as lines for people, above the live one. */
export function terminalLogger(level: LogLevel, line: LiveLine, on: Terminal): Logger {
  const least = LOG_LEVELS.indexOf(level)
  const at =
    (name: Exclude<LogLevel, 'silent'>, style: 'dim' | 'cyan' | 'yellow' | 'red') =>
    (fields: object, message: string) => {
      if (LOG_LEVELS.indexOf(name) < least) return
      const rest = Object.entries(fields).map(([field, value]) => `${field}=${plain(textOf(value))}`)
      line.print(
        `${on.style(style, name)} ${plain(message)}${rest.length > 0 ? ` ${on.style('dim', rest.join(' '))}` : ''}\n`,
      )
    }
  return { debug: at('debug', 'dim'), info: at('info', 'cyan'), warn: at('warn', 'yellow'), error: at('error', 'red') }
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (value instanceof Error) return value.message
  return JSON.stringify(value) ?? String(value)
}
