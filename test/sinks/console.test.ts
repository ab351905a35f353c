import { afterEach, expect, test, vi } from 'vitest'
import type { OpenSink } from '../../core/sink.ts'
import { console } from '../../sinks/console.ts'
import { connectorContext, rowMeta, sinkSuite, staged } from '../support/sink-suite.ts'

afterEach(() => vi.restoreAllMocks())

/** Takes what a stream is given, and answers as it would. */
function capture(
  stream: NodeJS.WriteStream,
  answer: (done: (error?: Error | null) => void) => void = (done) => done(),
) {
  let text = ''
  vi.spyOn(stream, 'write').mockImplementation(((body: Uint8Array, done: (error?: Error | null) => void) => {
    text += Buffer.from(body).toString()
    answer(done)
    return true
  }) as never)
  return () => text
}

const never = new AbortController().signal
const context = (env: Record<string, string> = {}) => connectorContext('unused', { env })

sinkSuite<{ n: number }>('console', async () => {
  const printed = capture(process.stdout)
  return {
    sink: () => console<{ n: number }>(),
    context: context(),
    rows: (count) => Array.from({ length: count }, (_, n) => ({ n })),
    read: async () =>
      printed()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    unencodable: undefined as never,
    close: async () => void vi.restoreAllMocks(),
  }
})

test('a row is one line of JSON on standard output', async () => {
  const printed = capture(process.stdout)
  const open: OpenSink<unknown> = await console<unknown>().open(context())
  expect(await open.deliver(staged(open, [{ a: 'x\ny' }, null, 7]), never)).toEqual({ kind: 'applied' })
  await open.close()
  expect(printed()).toBe('{"a":"x\\ny"}\nnull\n7\n')
})

test('where standard output belongs to the command, rows go to standard error', async () => {
  const [out, error] = [capture(process.stdout), capture(process.stderr)]
  const open = await console<unknown>().open(context({ MILLRACE_JSON: '1' }))
  await open.deliver(staged(open, [1]), never)
  expect([out(), error(), open.identity]).toEqual(['', '1\n', 'console: stderr'])
})

test('for people a row has its event time, its key and its value over several lines', async () => {
  const printed = capture(process.stdout)
  const open = await console<unknown>({ format: 'pretty' }).open(context())
  await open.deliver(staged(open, [{ text: 'x'.repeat(90), more: ['y'] }]), never)
  expect(printed()).toBe(
    `2023-11-14T22:13:20.000Z key-0\n  {\n    text: '${'x'.repeat(90)}',\n    more: [ 'y' ]\n  }\n`,
  )
})

test('it waits until it was read, and says that it is unknown whether, when it may not wait', async () => {
  let read = () => {}
  capture(process.stdout, (done) => void (read = done))
  const open = await console<unknown>().open(context())
  let ended = false
  const slow = open.deliver(staged(open, [1]), never).finally(() => (ended = true))
  await new Promise((resolve) => setImmediate(resolve))
  expect(ended).toBe(false)
  read()
  expect(await slow).toEqual({ kind: 'applied' })
  const controller = new AbortController()
  const given = open.deliver(staged(open, [1]), controller.signal)
  controller.abort()
  expect((await given).kind).toBe('unknown')
})

test('a reader that went away is an outcome, not the end of the process', async () => {
  capture(process.stdout, (done) => {
    const gone = new Error('write EPIPE')
    done(gone)
    process.stdout.emit('error', gone)
  })
  const open = await console<unknown>({ name: 'look' }).open(context())
  const outcome = await open.deliver(staged(open, [1]), never)
  expect(outcome).toEqual({ kind: 'unknown', reason: 'console "look": write EPIPE' })
  const listeners = process.stdout.listenerCount('error')
  await open.close()
  expect(process.stdout.listenerCount('error')).toBe(listeners - 1)
})

test('what is no JSON is refused while the row is made', async () => {
  const open = await console<unknown>().open(context())
  expect(() => open.encoder('t').row(undefined, rowMeta(0))).toThrow(expect.objectContaining({ code: 'NOT_JSON' }))
})

test('a wrong option is refused when the pipeline is built', () => {
  expect(() => console({ format: 'xml' as never })).toThrow(
    "console \"console\": format must be 'json' or 'pretty', got 'xml'",
  )
})
