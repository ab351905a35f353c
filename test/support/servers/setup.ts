import { execFileSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { isHere, missingPrograms, SERVERS, type ServerKind } from './servers.ts'

/** Says to Debian's maintainer scripts that no service is to be started. */
const NO_SERVICES = '/usr/sbin/policy-rc.d'

/**
 * Brings the real servers before the first test, where that can be done: as root on a Debian machine their packages are
 * installed, each once, without starting the services that come with them. Where it cannot, `need` says so.
 */
export async function setup(): Promise<void> {
  const kinds: ServerKind[] = Object.values(SERVERS)
  const packages = kinds.filter((kind) => missingPrograms(kind).length > 0).flatMap((kind) => kind.packages)
  if (packages.length > 0 && process.getuid?.() === 0 && existsSync('/usr/bin/apt-get'))
    attempt(() => install(packages))
  for (const kind of kinds) {
    if (!isHere(kind) && missingPrograms(kind).length === 0) await kind.fetch?.().catch(report)
  }
}

function install(packages: readonly string[]): void {
  process.stdout.write(`Servers for the tests: apt-get install ${packages.join(' ')}\n`)
  const apt = (...args: string[]) =>
    execFileSync('apt-get', ['-q', '-y', '-o', 'DPkg::Lock::Timeout=300', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    })
  const ours = !existsSync(NO_SERVICES)
  if (ours) writeFileSync(NO_SERVICES, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    apt('update')
    apt('install', '--no-install-recommends', ...packages)
  } finally {
    if (ours) rmSync(NO_SERVICES)
  }
}

function attempt(action: () => void): void {
  try {
    action()
  } catch (error) {
    report(error)
  }
}

/** No run stops here: the suites that need what is missing are skipped, or fail where nothing may be skipped. */
function report(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
}
