import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { KAFKA, ZOOKEEPER } from './maven.ts'

/** A kind of real server that tests run against. */
export interface ServerKind {
  /** What messages call it. */
  readonly title: string
  /** Packages of Debian that bring its programs. */
  readonly packages: readonly string[]
  /** The programs that must be there. */
  readonly programs: readonly string[]
  /** Fetches what no package of Debian has, once; it does nothing when it is there. A throw says that it cannot be had. */
  readonly fetch?: () => Promise<void>
  /** What `fetch` brings is there. */
  readonly fetched?: () => boolean
}

/** The servers that suites may ask for with `need`; `setup.ts` brings them when a run starts. */
export const SERVERS = {
  compose: { title: 'docker-compose', packages: ['docker-compose'], programs: ['docker-compose'] },
  openssl: { title: 'OpenSSL', packages: ['openssl'], programs: ['openssl'] },
  prometheus: { title: 'Prometheus', packages: ['prometheus'], programs: ['prometheus', 'promtool'] },
  zookeeper: {
    title: 'ZooKeeper',
    packages: ['default-jre-headless', 'maven'],
    programs: ['java', 'mvn'],
    fetch: ZOOKEEPER.fetch,
    fetched: ZOOKEEPER.here,
  },
  redis: { title: 'Redis', packages: ['redis-server', 'openssl'], programs: ['redis-server', 'openssl'] },
  kafka: {
    title: 'Kafka',
    packages: ['default-jre-headless', 'maven', 'openssl'],
    programs: ['java', 'mvn', 'openssl'],
    fetch: KAFKA.fetch,
    fetched: KAFKA.here,
  },
} as const satisfies Readonly<Record<string, ServerKind>>

export type ServerName = keyof typeof SERVERS

/** Programs of the kind that are not on this machine. */
export function missingPrograms({ programs }: ServerKind): string[] {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return programs.filter((program) => !folders.some((folder) => existsSync(join(folder, program))))
}

/** Whether the server can be started here. */
export function isHere(kind: ServerKind): boolean {
  return missingPrograms(kind).length === 0 && (kind.fetched?.() ?? true)
}
