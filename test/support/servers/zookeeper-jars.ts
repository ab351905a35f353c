import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../project.ts'

const POM = join(import.meta.dirname, 'zookeeper.pom.xml')

/** Where the jars of the tests' ZooKeeper are kept: one folder for each state of the list of them. */
export const ZOOKEEPER_JARS = join(
  ROOT,
  'node_modules/.cache/millrace-zookeeper',
  createHash('sha256').update(readFileSync(POM)).digest('hex').slice(0, 12),
)

export const zooKeeperJarsAreHere = (): boolean => existsSync(ZOOKEEPER_JARS)

/** Fetches the jars with Maven, about 15 MB, once. Of several that do so at a time, the first one's are kept. */
export async function fetchZooKeeperJars(): Promise<void> {
  process.stdout.write('Servers for the tests: ZooKeeper, with Maven\n')
  mkdirSync(dirname(ZOOKEEPER_JARS), { recursive: true })
  const folder = mkdtempSync(`${ZOOKEEPER_JARS}-`)
  const copy = ['-B', '-q', '-f', POM, 'dependency:copy-dependencies', `-DoutputDirectory=${folder}`]
  try {
    await promisify(execFile)('mvn', copy)
    if (!zooKeeperJarsAreHere()) renameSync(folder, ZOOKEEPER_JARS)
  } catch (error) {
    if (!zooKeeperJarsAreHere()) throw error
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
