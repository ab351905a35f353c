import { readFileSync } from 'node:fs'
import { MillraceError, messageOf } from '../core/errors.ts'

/** Where a Redis is, and who asks. */
export interface RedisAddress {
  /** One server, or some of a cluster's; with `sentinel`, who knows where the server is. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
  /** The name that the Sentinels know the server by. */
  readonly sentinel?: string
  readonly sentinelPassword?: string
  readonly db: number
  readonly username?: string
  readonly password?: string
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  /** The address as it is shown and compared: without credentials and settings. */
  readonly shown: string
  /** What stands behind the `?`. */
  readonly settings: URLSearchParams
}

const FORM = /^(rediss?)(\+sentinel)?:\/\/(?:([^@/]*)@)?([^/?#@]+)((?:\/[\w.-]*)*)(?:\?(.*))?$/

/**
 * Reads an address such as `rediss://user:password@host:6379/0`; a cluster may be named by several of its servers:
 * `redis://a:6379,b:6379`; a server that Sentinels watch, by these and its name: `redis+sentinel://a:26379,b:26379/name/0`.
 * `REDIS_USER` and `REDIS_PASSWORD` stand for what the address does not say; `REDIS_SENTINEL_PASSWORD` is the Sentinels' own; `REDIS_CA`, `REDIS_CERT` and
 * `REDIS_KEY` are files in PEM form for TLS with an authority, or a client certificate, of one's own.
 *
 * @param where what messages call the address: `REDIS_URL`
 * @throws MillraceError BAD_OPTION
 */
export function redisAddress(
  url: string,
  where: string,
  env: Readonly<Record<string, string | undefined>> = {},
): RedisAddress {
  const [, scheme, sentinels, credentials, authority, path = '', settings] = FORM.exec(url) ?? []
  const nodes = (authority ?? '').split(',').map((text) => nodeOf(text, sentinels ? '26379' : '6379'))
  const parts = path.split('/').slice(1)
  const sentinel = sentinels ? parts.shift() : undefined
  const [db = '', ...more] = parts
  const whole = nodes.every((node) => node !== undefined) && /^\d*$/.test(db) && more.length === 0
  if (scheme === undefined || !whole || sentinel === '' || (sentinels && sentinel === undefined)) {
    // The text may hold a password, and is not quoted.
    throw new MillraceError(
      'BAD_OPTION',
      `${where} must be an address such as 'redis://host:6379' or 'rediss://user:password@host:6379/0', got something else`,
    )
  }
  const [user = '', password = ''] = credentialsOf(credentials)
  const username = user || env.REDIS_USER
  const secret = password || env.REDIS_PASSWORD
  const known = nodes.map((node) => node!)
  const place = known.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`).join(',')
  return {
    nodes: known,
    db: Number(db),
    ...(sentinel ? { sentinel } : {}),
    ...(sentinel && env.REDIS_SENTINEL_PASSWORD ? { sentinelPassword: env.REDIS_SENTINEL_PASSWORD } : {}),
    ...(username ? { username } : {}),
    ...(secret ? { password: secret } : {}),
    ...(scheme === 'rediss' ? { tls: certificates(env) } : {}),
    shown: `${scheme}${sentinels ?? ''}://${place}/${sentinel ? `${sentinel}/` : ''}${Number(db)}`,
    settings: new URLSearchParams(settings),
  }
}

function nodeOf(text: string, usual: string): { host: string; port: number } | undefined {
  const [, bracketed, plain, port = usual] = /^(?:\[([\da-fA-F:]+)\]|([\w.-]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const host = bracketed ?? plain
  return host === undefined ? undefined : { host, port: Number(port) }
}

/** `user:password`; a word alone is a password, as in Redis before it had users. */
function credentialsOf(text: string | undefined): string[] {
  if (text === undefined || text === '') return []
  const at = text.indexOf(':')
  const parts = at < 0 ? ['', text] : [text.slice(0, at), text.slice(at + 1)]
  return parts.map(decodeURIComponent)
}

function certificates(env: Readonly<Record<string, string | undefined>>): NonNullable<RedisAddress['tls']> {
  const read = (name: string) => {
    const path = env[name]
    if (!path) return undefined
    try {
      return readFileSync(path, 'utf8')
    } catch (cause) {
      throw new MillraceError('BAD_OPTION', `${name} must name a file in PEM form: ${messageOf(cause)}`, { cause })
    }
  }
  const [ca, cert, key] = ['REDIS_CA', 'REDIS_CERT', 'REDIS_KEY'].map(read)
  return { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) }
}
