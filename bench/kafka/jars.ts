import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, renameSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const JAVA = join(import.meta.dirname, '../kafka-streams')

/** The jars of a broker and of Kafka Streams, fetched with Maven once and kept in the temporary folder. */
export function jars(): string {
  const pom = join(JAVA, 'pom.xml')
  const state = createHash('sha256').update(readFileSync(pom)).digest('hex').slice(0, 12)
  const folder = join(tmpdir(), `millrace-bench-kafka-${state}`)
  if (existsSync(folder)) return folder
  const part = mkdtempSync(`${folder}-`)
  execFileSync('mvn', ['-B', '-q', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${part}`], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  renameSync(part, folder)
  return folder
}

/** The command line of one of the programs beside the list of jars. */
export function javaProgram(name: 'ShopLoad' | 'CartStreams', args: readonly string[], heap: string): string[] {
  return [`-Xmx${heap}`, '-cp', `${jars()}/*`, join(JAVA, `${name}.java`), ...args]
}
