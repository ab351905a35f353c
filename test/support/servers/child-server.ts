import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** A server's process that a test started: it ends with the test's process at the latest. */
export interface ChildServer {
  readonly pid: number
  /** All that it has printed. */
  output(): string
  /** Sends a signal and waits for its end. */
  end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<void>
  /** Stops it in its tracks (SIGSTOP) until `resume`. */
  pause(): void
  resume(): void
}

/** A port of the loopback address that nobody held a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Milliseconds that a server may take until it is ready, on a machine that has much else to do. */
const READY = 120_000

/** Starts a program, and resolves when it has printed what says that it is ready. */
export async function startServer(
  program: string,
  args: readonly string[],
  { ready, cwd, env = process.env }: { ready: RegExp; cwd: string; env?: NodeJS.ProcessEnv },
): Promise<ChildServer> {
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)
  let printed = ''
  const { promise: ended, resolve: onEnd } = Promise.withResolvers<void>()
  const { promise: isReady, resolve: onReady, reject: onFailure } = Promise.withResolvers<void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed = (printed + text).slice(-100_000)
      if (ready.test(printed)) onReady()
    })
  }
  child.on('error', onFailure)
  child.on('close', (code, signal) => {
    running.delete(child)
    onEnd()
    onFailure(new Error(`${program} ended with ${signal ?? code} before it was ready:\n${printed.slice(-2_000)}`))
  })
  const late = setTimeout(() => {
    onFailure(new Error(`${program} is not ready after ${READY} ms:\n${printed.slice(-2_000)}`))
    child.kill('SIGKILL')
  }, READY)
  await isReady.finally(() => clearTimeout(late))
  return {
    pid: child.pid!,
    output: () => printed,
    async end(signal) {
      if (!running.has(child)) return
      child.kill('SIGCONT')
      child.kill(signal)
      await ended
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}
