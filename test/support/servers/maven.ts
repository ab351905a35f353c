import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../project.ts'

/** The jars that a pom lists, in one folder for each state of the list. */
export interface Jars {
  readonly folder: string
  /** For `java -cp`. */
  readonly classPath: string
  here(): boolean
  /** Fetches them with Maven, once. Of several that do so at a time, the first one's are kept. */
  fetch(): Promise<void>
}

/** @param name what messages and the folder call them */
export function mavenJars(name: string, pom: string): Jars {
  const state = createHash('sha256').update(readFileSync(pom)).digest('hex').slice(0, 12)
  const folder = join(ROOT, `node_modules/.cache/millrace-${name.toLowerCase().replaceAll(' ', '-')}`, state)
  const here = () => existsSync(folder)
  return {
    folder,
    classPath: join(folder, '*'),
    here,
    async fetch() {
      if (here()) return
      process.stdout.write(`Fetched once: ${name}, with Maven\n`)
      mkdirSync(dirname(folder), { recursive: true })
      const part = mkdtempSync(`${folder}-`)
      const copy = ['-B', '-q', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${part}`]
      try {
        await promisify(execFile)('mvn', copy)
        if (!here()) renameSync(part, folder)
      } catch (error) {
        if (!here()) throw error
      } finally {
        rmSync(part, { recursive: true, force: true })
      }
    },
  }
}

const pomOf = (name: string) => join(import.meta.dirname, `${name}.pom.xml`)

/** About 110 MB. */
export const KAFKA = mavenJars('Kafka', pomOf('kafka'))
/** About 15 MB. */
export const ZOOKEEPER = mavenJars('ZooKeeper', pomOf('zookeeper'))
