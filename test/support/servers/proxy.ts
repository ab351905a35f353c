import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'
import { type Chance, chance } from '../../simulation/chance.ts'

/** Where the real server is. */
export type ProxyTarget = { readonly port: number; readonly host?: string } | { readonly socketPath: string }

/**
 * What is done to one exchange, which is what a client says up to the first byte of an answer, and that answer. A
 * client that sends on before it is answered (Kafka's and Redis' do) has exchanges of several requests.
 *
 * - `cutRequest`: `after` bytes of the request are passed on, then both sides get a reset. A request that has fewer is
 *   passed whole, and cut when it is answered
 * - `cutAnswer`: `after` bytes of the answer are passed back, then both sides get a reset
 * - `loseReply`: the server has answered, so that it has done what it was asked for; the client gets a reset
 * - `muteReply`: the same, and the client hears nothing, until it gives up
 * - `blackHole`: nothing of the request is passed on, and the client hears nothing, until it gives up
 * - `delay`: the answer waits for `ms`
 * - `throttle`: both ways pass `bytesPerSecond`
 */
export type Fault =
  | { readonly kind: 'cutRequest'; readonly after: number }
  | { readonly kind: 'cutAnswer'; readonly after: number }
  | { readonly kind: 'loseReply' }
  | { readonly kind: 'muteReply' }
  | { readonly kind: 'blackHole' }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'throttle'; readonly bytesPerSecond: number }

export type FaultKind = Fault['kind']

/** What holds for all exchanges until it is changed. */
export interface Weather {
  /** Each answer waits for so many milliseconds. */
  readonly delay?: number
  /** Each way of each connection passes so many bytes a second. */
  readonly bytesPerSecond?: number
  /** Nothing is passed either way, and nobody is told: half-open connections. What came meanwhile is passed when it ends. */
  readonly silent?: boolean
}

export interface RandomFaults {
  readonly seed: number
  /** The probability that something is done to an exchange. */
  readonly rate: number
  /** What may be done. @default all but those that only a client's timeout ends: muteReply and blackHole */
  readonly kinds?: readonly FaultKind[]
  /** Whether an exchange counts, by the first bytes of its request. @default all */
  readonly when?: (first: Buffer) => boolean
  /** A delay is up to so many milliseconds. @default 50 */
  readonly delay?: number
  /** @default 65536 */
  readonly bytesPerSecond?: number
  /** A request or answer is cut at up to so many bytes. @default 4096 */
  readonly within?: number
}

export interface ProxyCounts {
  readonly connections: number
  readonly exchanges: number
  /** Connections that `cut()` has reset. */
  readonly cut: number
  /** What was done to exchanges. */
  readonly faults: Readonly<Record<FaultKind, number>>
  /** The sum of `faults`. */
  readonly injected: number
}

/** A way to a real server over TCP, on which a test does what networks do. */
export interface FaultProxy {
  /** On 127.0.0.1; the same for as long as the proxy lives. */
  readonly port: number
  readonly counts: ProxyCounts
  /** Does something to the next `times` exchanges, or to the next of those whose request begins as `when` says. */
  next(fault: Fault, options?: { readonly times?: number; readonly when?: (first: Buffer) => boolean }): void
  /** Does something at random, the same for the same seed and the same exchanges; undefined ends it. */
  random(faults: RandomFaults | undefined): void
  weather(now: Weather): void
  /** Resets every connection. */
  cut(): void
  /** Refuses connections, and resets those that are; until `accept`. */
  refuse(): Promise<void>
  accept(): Promise<void>
  /** New connections go there: the server was started again elsewhere. */
  target(to: ProxyTarget): void
  /** No faults and fair weather; connections stay. */
  calm(): void
  close(): Promise<void>
}

const KINDS: readonly FaultKind[] = ['cutRequest', 'cutAnswer', 'loseReply', 'delay', 'throttle']
/** A throttled way passes its bytes in so many parts a second. */
const PARTS = 50

/**
 * Stands between a client and the real server at `to`, passing bytes both ways as they come, until it is told otherwise.
 * It knows nothing of what is said: it works for HTTP, Kafka and Redis alike.
 */
export async function faultProxy(to: ProxyTarget): Promise<FaultProxy> {
  const links = new Set<Link>()
  const state: State = {
    target: to,
    armed: [],
    random: undefined,
    weather: {},
    wind: Promise.withResolvers<void>(),
    connections: 0,
    exchanges: 0,
    cut: 0,
    faults: { cutRequest: 0, cutAnswer: 0, loseReply: 0, muteReply: 0, blackHole: 0, delay: 0, throttle: 0 },
  }
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    state.connections += 1
    const link = new Link(
      near,
      connect({ ...state.target, allowHalfOpen: true, noDelay: true } as NetConnectOpts),
      state,
    )
    links.add(link)
    link.over.then(() => links.delete(link))
  })
  await listen(server, 0)
  const { port } = server.address() as { port: number }
  const cut = () => {
    for (const link of links) link.reset()
    state.cut += links.size
  }
  const weather = (now: Weather) => {
    state.weather = now
    state.wind.resolve()
    state.wind = Promise.withResolvers<void>()
  }
  return {
    port,
    get counts() {
      const { connections, exchanges, faults } = state
      const injected = Object.values(faults).reduce((sum, n) => sum + n, 0)
      return { connections, exchanges, cut: state.cut, faults: { ...faults }, injected }
    },
    next: (fault, { times = 1, when = () => true } = {}) => void state.armed.push({ fault, left: times, when }),
    random(faults) {
      state.random = faults && { ...faults, chance: chance(faults.seed) }
    },
    weather,
    cut,
    async refuse() {
      const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined
      cut()
      await closed
    },
    accept: async () => (server.listening ? undefined : listen(server, port)),
    target(next) {
      state.target = next
    },
    calm() {
      state.armed.length = 0
      state.random = undefined
      weather({})
    },
    async close() {
      const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined
      for (const link of links) link.reset()
      await closed
    },
  }
}

interface State {
  target: ProxyTarget
  readonly armed: { fault: Fault; left: number; when: (first: Buffer) => boolean }[]
  random: (RandomFaults & { readonly chance: Chance }) | undefined
  weather: Weather
  /** Resolves when the weather changes. */
  wind: PromiseWithResolvers<void>
  connections: number
  exchanges: number
  cut: number
  readonly faults: Record<FaultKind, number>
}

/** One connection of a client, and its own to the server. */
class Link {
  readonly over: Promise<unknown>
  private readonly near: Socket
  private readonly far: Socket
  private readonly state: State
  private readonly gone = Promise.withResolvers<void>()
  private asking = false
  private fault: Fault | undefined
  private passed = 0

  constructor(near: Socket, far: Socket, state: State) {
    this.near = near
    this.far = far
    this.state = state
    this.over = Promise.all(
      [near, far].map((socket) => {
        socket.on('error', () => this.reset())
        return new Promise((resolve) => socket.once('close', resolve))
      }),
    )
    for (const way of [this.requests(), this.answers()]) way.catch(() => this.reset())
  }

  reset(): void {
    this.gone.resolve()
    for (const socket of [this.near, this.far]) {
      if (socket.destroyed) continue
      // Only a connection over TCP can be reset.
      if (socket.remoteAddress === undefined) socket.destroy()
      else socket.resetAndDestroy()
    }
  }

  private async requests(): Promise<void> {
    for await (const chunk of chunks(this.near)) {
      if (!this.asking) this.begin(chunk)
      await this.calm()
      const { fault } = this
      if (fault?.kind === 'blackHole') continue
      if (fault?.kind === 'cutRequest' && this.passed + chunk.length > fault.after) {
        await this.write(this.far, chunk.subarray(0, fault.after - this.passed))
        return this.reset()
      }
      this.passed += chunk.length
      await this.pass(this.far, chunk)
    }
    this.far.end()
  }

  private async answers(): Promise<void> {
    let back = 0
    for await (const chunk of chunks(this.far)) {
      if (this.asking) {
        this.asking = false
        back = 0
        if (this.fault?.kind === 'delay') await this.wait(this.fault.ms)
        if (this.state.weather.delay) await this.wait(this.state.weather.delay)
      }
      await this.calm()
      const { fault } = this
      if (fault?.kind === 'muteReply') {
        this.asking = true
        continue
      }
      if (fault?.kind === 'loseReply' || fault?.kind === 'cutRequest') return this.reset()
      if (fault?.kind === 'cutAnswer' && back + chunk.length > fault.after) {
        await this.write(this.near, chunk.subarray(0, fault.after - back))
        return this.reset()
      }
      back += chunk.length
      await this.pass(this.near, chunk)
    }
    if (this.fault?.kind !== 'muteReply' && this.fault?.kind !== 'blackHole') this.near.end()
  }

  /** A new exchange: what will be done to it. */
  private begin(first: Buffer): void {
    this.asking = true
    this.passed = 0
    this.state.exchanges += 1
    this.fault = this.armed(first) ?? this.drawn(first)
    if (this.fault) this.state.faults[this.fault.kind] += 1
  }

  private armed(first: Buffer): Fault | undefined {
    const { armed } = this.state
    const found = armed.find(({ when }) => when(first))
    if (!found) return undefined
    found.left -= 1
    if (found.left <= 0) armed.splice(armed.indexOf(found), 1)
    return found.fault
  }

  private drawn(first: Buffer): Fault | undefined {
    const { random } = this.state
    if (!random || (random.when && !random.when(first)) || !random.chance.yes(random.rate)) return undefined
    const { delay = 50, bytesPerSecond = 65_536, within = 4_096 } = random
    const kind = random.chance.one(random.kinds ?? KINDS)
    const after = random.chance.whole(0, within)
    if (kind === 'cutRequest' || kind === 'cutAnswer') return { kind, after }
    if (kind === 'delay') return { kind, ms: random.chance.whole(1, delay) }
    return kind === 'throttle' ? { kind, bytesPerSecond } : { kind }
  }

  private async pass(to: Socket, chunk: Buffer): Promise<void> {
    const slow = this.fault?.kind === 'throttle' ? this.fault.bytesPerSecond : this.state.weather.bytesPerSecond
    if (slow === undefined) return this.write(to, chunk)
    const part = Math.max(1, Math.floor(slow / PARTS))
    for (let from = 0; from < chunk.length; from += part) {
      await this.wait((1_000 * Math.min(part, chunk.length - from)) / slow)
      await this.write(to, chunk.subarray(from, from + part))
    }
  }

  private async write(to: Socket, chunk: Buffer): Promise<void> {
    if (to.destroyed || chunk.length === 0) return
    await new Promise<void>((resolve) => to.write(chunk, () => resolve()))
  }

  private async calm(): Promise<void> {
    while (this.state.weather.silent && !this.near.destroyed)
      await Promise.race([this.state.wind.promise, this.gone.promise])
  }

  private async wait(ms: number): Promise<void> {
    const passed = Promise.withResolvers<void>()
    const timer = setTimeout(passed.resolve, ms)
    await Promise.race([passed.promise, this.gone.promise])
    clearTimeout(timer)
  }
}

/** What comes in; the socket can still be written to when that has ended. */
function chunks(socket: Socket): AsyncIterable<Buffer> {
  return { [Symbol.asyncIterator]: () => socket.iterator({ destroyOnReturn: false }) }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', () => resolve())
  })
}
