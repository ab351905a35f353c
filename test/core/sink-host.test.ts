import { expect, test } from 'vitest'
import { systemRuntime } from '../../core/runtime.ts'
import type { Delivery, OpenSink, Outcome } from '../../core/sink.ts'
import { SinkHost } from '../../core/sink-host.ts'
import { turn } from '../../testing/manual-runtime.ts'
import { countingSink } from '../support/counting-sink.ts'

/** A host whose requests are answered when the test says so. */
function hosting(concurrency: number) {
  const underWay: ((outcome: Outcome) => void)[] = []
  const open = { deliver: () => new Promise<Outcome>((resolve) => underWay.push(resolve)) } as unknown as OpenSink<any>
  const host = new SinkHost('out', countingSink(), open, systemRuntime, concurrency)
  const deliver = (closing: AbortSignal) => host.deliver({} as Delivery, closing, new AbortController().signal)
  return { underWay, deliver, answer: () => underWay.shift()!({ kind: 'applied' }) }
}

test('lanes that begin at once have no more requests under way than the sink may have', async () => {
  const { underWay, deliver, answer } = hosting(4)
  const never = new AbortController().signal
  const all = Array.from({ length: 10 }, () => deliver(never))
  for (let left = 10; left > 0; left--) {
    await turn()
    expect(underWay.length).toBe(Math.min(4, left))
    answer()
  }
  expect((await Promise.all(all)).map(({ kind }) => kind)).toEqual(all.map(() => 'applied'))
})

test('what waits when its task lets go is not sent, and its place goes to the next one', async () => {
  const { underWay, deliver, answer } = hosting(1)
  const [never, closing] = [new AbortController().signal, new AbortController()]
  const first = deliver(never)
  const gone = [deliver(closing.signal), deliver(closing.signal)]
  const last = deliver(never)
  await turn()
  closing.abort('let go')
  expect((await Promise.all(gone)).map(({ kind }) => kind)).toEqual(['notSent', 'notSent'])
  expect(underWay.length).toBe(1)
  answer()
  await turn()
  expect(underWay.length).toBe(1)
  answer()
  expect([(await first).kind, (await last).kind]).toEqual(['applied', 'applied'])
})

test('one that lets go about when it is its turn leaves its place to the next one', async () => {
  for (let steps = 0; steps < 12; steps++) {
    const { underWay, deliver, answer } = hosting(1)
    const [never, closing] = [new AbortController().signal, new AbortController()]
    const first = deliver(never)
    const gone = deliver(closing.signal)
    const last = deliver(never)
    await turn()
    answer()
    for (let i = 0; i < steps; i++) await undefined
    closing.abort('let go')
    for (let i = 0; i < 5; i++) {
      await turn()
      if (underWay.length > 0) answer()
    }
    const ended = Promise.all([first, gone, last])
    const kinds = (await Promise.race([ended, systemRuntime.sleep(500)]))?.map(({ kind }) => kind)
    expect([steps, kinds]).toEqual([steps, ['applied', expect.stringMatching(/notSent|applied/), 'applied']])
  }
})
