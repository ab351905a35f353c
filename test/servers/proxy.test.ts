import { createServer, type IncomingMessage, request, type Server } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type FaultProxy, faultProxy } from '../support/servers/proxy.ts'

/** A server that says back what it was sent, and remembers it. */
let server: Server
let port: number
let heard: string[]
let proxy: FaultProxy

async function textOf(message: IncomingMessage): Promise<string> {
  let text = ''
  for await (const part of message) text += part
  return text
}

beforeAll(async () => {
  server = createServer(async (request, response) => {
    const text = await textOf(request).catch(() => undefined)
    if (text === undefined) return
    heard.push(text)
    response.end(text)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as { port: number }).port
})
beforeEach(async () => {
  heard = []
  proxy = await faultProxy({ port })
})
afterEach(() => proxy.close())
afterAll(() => new Promise((resolve) => server.close(resolve)))

/** The answer, or the code of what went wrong. */
function ask(text: string, timeout?: number): Promise<string> {
  return new Promise((resolve) => {
    const asked = request({ port: proxy.port, host: '127.0.0.1', method: 'POST', agent: false }, (response) =>
      textOf(response).then(resolve, (error) => resolve(error.code)),
    )
    asked.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    if (timeout !== undefined)
      asked.setTimeout(timeout, () => asked.destroy(Object.assign(new Error(), { code: 'LATE' })))
    asked.end(text)
  })
}

test('what is said goes both ways unchanged, whatever its size', async () => {
  const large = 'abcdefghij'.repeat(500_000)
  expect(await ask('hello')).toBe('hello')
  expect(await ask(large)).toBe(large)
  expect(proxy.counts).toMatchObject({ connections: 2, exchanges: 2, injected: 0 })
})

test('a request that is cut does not reach the server whole, and one that is shorter is cut when it is answered', async () => {
  proxy.next({ kind: 'cutRequest', after: 100_000 }, { times: 2 })
  expect(await ask('x'.repeat(200_000))).toBe('ECONNRESET')
  expect(heard).toEqual([])
  expect(await ask('short')).toBe('ECONNRESET')
  expect(heard).toEqual(['short'])
  expect(await ask('again')).toBe('again')
  expect(proxy.counts).toMatchObject({ exchanges: 3, injected: 2, faults: { cutRequest: 2 } })
})

test('an answer is cut in its middle', async () => {
  proxy.next({ kind: 'cutAnswer', after: 50_000 })
  expect(await ask('y'.repeat(200_000))).toBe('ECONNRESET')
  expect(heard.map((text) => text.length)).toEqual([200_000])
})

test('a reply that is lost was an answer: the server has heard all', async () => {
  proxy.next({ kind: 'loseReply' })
  expect(await ask('applied')).toBe('ECONNRESET')
  expect(heard).toEqual(['applied'])
})

test('a mute reply and a black hole last until the client gives up; only of the first the server hears', async () => {
  proxy.next({ kind: 'muteReply' })
  expect(await ask('mute', 50)).toBe('LATE')
  proxy.next({ kind: 'blackHole' })
  expect(await ask('gone', 50)).toBe('LATE')
  expect(heard).toEqual(['mute'])
})

test('only exchanges that begin as wanted are meant', async () => {
  proxy.next({ kind: 'loseReply' }, { when: (first) => first.includes('this one') })
  expect(await ask('another')).toBe('another')
  expect(await ask('this one')).toBe('ECONNRESET')
  expect(await ask('this one')).toBe('this one')
})

test('delays and throttles take their time, for one exchange or for all', async () => {
  const timed = async (text: string) => {
    const started = performance.now()
    expect(await ask(text)).toBe(text)
    return performance.now() - started
  }
  proxy.next({ kind: 'delay', ms: 60 })
  expect(await timed('slow')).toBeGreaterThan(55)
  proxy.next({ kind: 'throttle', bytesPerSecond: 100_000 })
  expect(await timed('z'.repeat(10_000))).toBeGreaterThan(150)
  proxy.weather({ delay: 60 })
  expect(await timed('slow')).toBeGreaterThan(55)
  proxy.calm()
  expect(await ask('fast')).toBe('fast')
})

test('cut resets what is open, refuse lets nobody in, accept does, silence passes nothing until it ends', async () => {
  proxy.weather({ silent: true })
  const cut = ask('cut')
  while (proxy.counts.exchanges < 1) await sleep(1)
  proxy.cut()
  expect(await cut).toBe('ECONNRESET')
  expect(proxy.counts.cut).toBe(1)
  const kept = ask('kept')
  while (proxy.counts.exchanges < 2) await sleep(1)
  expect(heard).toEqual([])
  proxy.calm()
  expect(await kept).toBe('kept')
  await proxy.refuse()
  expect(await ask('refused')).toBe('ECONNREFUSED')
  await proxy.accept()
  expect(await ask('back')).toBe('back')
})

test('a server that is gone refuses, and one elsewhere is found', async () => {
  proxy.target({ port: 1 })
  expect(await ask('nobody')).toBe('ECONNRESET')
  proxy.target({ port })
  expect(await ask('there')).toBe('there')
})

test('random faults are the same for a seed, as many as wanted, and those that got an answer got theirs', async () => {
  const run = async () => {
    proxy.random({ seed: 7, rate: 0.5, delay: 2, bytesPerSecond: 10_000_000 })
    const before = proxy.counts.injected
    const answers: string[] = []
    for (let n = 0; n < 100; n++) answers.push(await ask(`${n}`))
    for (const [n, answer] of answers.entries()) expect([`${n}`, 'ECONNRESET']).toContain(answer)
    return [proxy.counts.injected - before, answers.join()]
  }
  const [injected, answers] = await run()
  expect(injected).toBeGreaterThan(30)
  expect(injected).toBeLessThan(70)
  expect(await run()).toEqual([injected, answers])
  proxy.random(undefined)
  expect(await ask('calm')).toBe('calm')
})

test('a client that ends its side still hears the answer', async () => {
  const socket = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true })
  socket.end('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi')
  let text = ''
  for await (const part of socket) text += part
  expect(text).toMatch(/hi/)
})
