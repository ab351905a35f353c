import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { mavenJars } from '../../test/support/servers/maven.ts'

/** A program of the bench that prints JSON lines. */
export interface Child<L> {
  readonly pid: number
  /** What it said last. */
  readonly last: L | undefined
  /** All that it has said, when it is kept. */
  readonly lines: readonly L[]
  readonly ended: Promise<void>
  kill(): Promise<void>
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>
}

const JAVA = join(import.meta.dirname, '../kafka-streams')
/** Kafka Streams, and what its programs need. */
export const STREAMS = mavenJars('Kafka Streams', join(JAVA, 'pom.xml'))

const running = new Set<ChildProcess>()
const killAll = () => {
  for (const child of running) child.kill('SIGKILL')
}
process.on('exit', killAll)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

/** Starts one of this folder's programs with the Node of this process. */
export function startNode<L>(script: string, args: readonly string[], keep = false, flags: readonly string[] = []) {
  const path = new URL(script, import.meta.url).pathname
  return start<L>(process.execPath, [...flags, '--conditions=source', path, ...args], keep)
}

/** Starts one of the Java programs. */
export function startJava<L>(name: 'ShopLoad' | 'CartStreams', args: readonly string[], heap = '1g') {
  return start<L>('java', [`-Xmx${heap}`, '-cp', STREAMS.classPath, join(JAVA, `${name}.java`), ...args], false)
}

function start<L>(program: string, args: readonly string[], keep: boolean): Child<L> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)
  const lines: L[] = []
  let last: L | undefined
  let wrong = ''
  let killed = false
  createInterface({ input: child.stdout! }).on('line', (line) => {
    if (!line.startsWith('{')) return
    last = JSON.parse(line) as L
    if (keep) lines.push(last)
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    wrong = (wrong + text).slice(-4_000)
  })
  const ended = new Promise<void>((resolve, reject) => {
    child.once('close', (code) => {
      running.delete(child)
      if (code === 0 || killed) resolve()
      else reject(new Error(`${args.at(-1)}: ended with ${code}\n${wrong}`))
    })
  })
  ended.catch(() => undefined)
  const end = async (signal: NodeJS.Signals) => {
    killed = true
    child.kill(signal)
    await ended
  }
  return {
    pid: child.pid!,
    get last() {
      return last
    },
    lines,
    ended,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  }
}

/** Looks until there is an answer, or one of the children has ended. */
export async function until<T>(
  what: () => T | undefined | Promise<T | undefined>,
  children: readonly Child<unknown>[],
  seconds = 600,
) {
  const fails = Promise.race(
    children.map((child) => child.ended.then(() => Promise.reject(new Error('a program ended')))),
  )
  fails.catch(() => undefined)
  for (const end = Date.now() + seconds * 1_000; ; ) {
    const is = await Promise.race([what(), fails])
    if (is !== undefined) return is as T
    if (Date.now() > end) throw new Error(`not so after ${seconds} s: ${what}`)
    await Promise.race([new Promise((resolve) => setTimeout(resolve, 25)), fails])
  }
}
