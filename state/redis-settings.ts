import { type Duration, milliseconds, shown } from '../core/duration.ts'
import { MillraceError } from '../core/errors.ts'

/** What a store's options and its address may both say. */
export interface RedisSettings {
  readonly prefix?: string
  readonly replicas?: number
  readonly fsync?: boolean
  readonly patience?: Duration
  readonly timeout?: Duration
  readonly volatile?: boolean
}

interface Settings {
  readonly prefix: string
  readonly replicas: number
  readonly fsync: boolean
  readonly patience: number
  readonly timeout: number
  readonly volatile: boolean
}

const SETTINGS = ['prefix', 'replicas', 'fsync', 'patience', 'timeout', 'volatile']

/**
 * The settings, times in milliseconds: what the options say, or else the address.
 *
 * @throws MillraceError BAD_OPTION
 */
export function settingsOf(options: RedisSettings, given: URLSearchParams): Settings {
  const stranger = [...given.keys()].find((name) => !SETTINGS.includes(name))
  if (stranger !== undefined)
    throw new MillraceError('BAD_OPTION', `redisStore: its address knows ${SETTINGS.join(', ')}, and not ${stranger}`)
  const flag = (name: 'fsync' | 'volatile') => options[name] ?? ['1', 'true', 'yes'].includes(given.get(name) ?? '')
  const prefix = options.prefix ?? given.get('prefix') ?? 'millrace'
  if (!/^[\w.:/-]+$/.test(prefix))
    throw new MillraceError(
      'BAD_OPTION',
      `redisStore: prefix must be letters, digits and any of _ . : / -, got ${shown(prefix)}`,
    )
  const replicas = options.replicas ?? Number(given.get('replicas') ?? 0)
  if (!Number.isInteger(replicas) || replicas < 0)
    throw new MillraceError('BAD_OPTION', `redisStore: replicas must be a whole number, got ${shown(replicas)}`)
  const duration = (name: 'patience' | 'timeout', otherwise: Duration) =>
    milliseconds(options[name] ?? ((given.get(name) ?? otherwise) as Duration), `redisStore: ${name}`)
  return {
    prefix,
    replicas,
    fsync: flag('fsync'),
    patience: duration('patience', '30s'),
    timeout: duration('timeout', '10s'),
    volatile: flag('volatile'),
  }
}
