import { describe } from 'vitest'
import { NEEDS } from './needs.ts'
import { isHere, SERVERS, type ServerKind, type ServerName } from './servers.ts'

/**
 * `describe` for a suite that runs against real servers. Where one cannot be had the suite is skipped, and listed at the
 * end of the run; with `CI=true` it fails.
 *
 * @example
 * ```ts
 * need('redis')('the sink on a real Redis', () => { … })
 * ```
 */
export function need(...names: readonly ServerName[]): (title: string, suite: () => void) => void {
  const missing = names.map((name): ServerKind => SERVERS[name]).filter((kind) => !isHere(kind))
  if (missing.length === 0) return (title, suite) => describe(title, suite)
  const wanted = missing.map(({ title, packages }) => `${title}: apt-get install ${packages.join(' ')}`).join('; ')
  if (process.env.CI === 'true') throw new Error(`with CI=true no suite is skipped, and this one needs ${wanted}`)
  return (title, suite) => describe.skip(`${title}${NEEDS}${wanted}]`, suite)
}
