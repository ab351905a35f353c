import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../project.ts'

const POM = join(import.meta.dirname, 'kafka.pom.xml')

/** Where the jars of the tests' Kafka are kept: one folder for each state of the list of them. */
export const KAFKA_JARS = join(
  ROOT,
  'node_modules/.cache/millrace-kafka',
  createHash('sha256').update(readFileSync(POM)).digest('hex').slice(0, 12),
)

export const kafkaJarsAreHere = (): boolean => existsSync(KAFKA_JARS)

/** Fetches the jars with Maven, about 110 MB, once. Of several that do so at a time, the first one's are kept. */
export async function fetchKafkaJars(): Promise<void> {
  if (kafkaJarsAreHere()) return
  process.stdout.write('Servers for the tests: Kafka, with Maven\n')
  mkdirSync(dirname(KAFKA_JARS), { recursive: true })
  const folder = mkdtempSync(`${KAFKA_JARS}-`)
  try {
    await promisify(execFile)('mvn', [
      '-B',
      '-q',
      '-f',
      POM,
      'dependency:copy-dependencies',
      `-DoutputDirectory=${folder}`,
    ])
    if (!kafkaJarsAreHere()) renameSync(folder, KAFKA_JARS)
  } catch (error) {
    if (!kafkaJarsAreHere()) throw error
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
