import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { pipeline } from '../../core/pipeline.ts'
import type { Sink } from '../../core/sink.ts'
import type { Output } from '../../core/stream.ts'
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'
import { type Outcome, Trial, type TrialOptions } from '../../testing/trial.ts'
import { abandonedCarts } from '../support/carts.ts'

const DATA = join(import.meta.dirname, '../../../shared/data')
const linesOf = (name: string, most = Number.POSITIVE_INFINITY) =>
  readFileSync(join(DATA, name), 'latin1').trimEnd().split('\n').slice(0, most)

/** The shipped pipeline, its outputs led to one sink that keeps what it gets. */
function carts(to: Sink<any>) {
  const outputs = Object.entries(cartAbandonment.outputs).map(([name, output]) => [name, { ...output, to }])
  return pipeline('cart-abandonment', Object.fromEntries(outputs) as Record<string, Output<unknown>>)
}

/** The lines as the source would decode them; what is no JSON is left out. */
function eventsOf(lines: readonly string[]): unknown[] {
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)]
    } catch {
      return []
    }
  })
}

async function outcomeOf(events: readonly unknown[], more: Partial<TrialOptions> = {}): Promise<Outcome> {
  const trial = new Trial({ pipeline: carts, inputs: { 'shop.events': [events] }, worker: {}, ...more })
  await trial.settle()
  await trial.finish()
  return trial.outcome()
}

const mailsOf = ({ rows }: Outcome) => rows['emails/0']!.map(({ value }) => `${value.key}/${value.at}`).sort()

describe('the shipped pipeline', () => {
  test.each([
    ['real events with repeats and malformed ones', 'retailrocket_dirty.jsonl', 2_000],
    ['carts and purchases around the half hour', 'edge_carts.jsonl', Number.POSITIVE_INFINITY],
  ])(
    'gives the same from %s wherever they are cut, and whenever the process dies',
    async (_, name, most) => {
      const lines = linesOf(name, most)
      const events = eventsOf(lines)
      const whole = await outcomeOf(events)
      expect(mailsOf(whole)).toEqual(abandonedCarts(lines))
      expect(mailsOf(whole).length).toBeGreaterThan(10)
      expect(await outcomeOf(events, { epoch: () => ({ records: 1, bytes: 1 }) })).toEqual(whole)
      await fc.assert(
        fc.asyncProperty(
          // no smaller: of two thousand records, each life of the process must take a few
          fc.array(fc.integer({ min: 5, max: 300 }), { minLength: 1, maxLength: 8 }),
          fc.integer({ min: 4, max: 40 }),
          async (sizes, every) => {
            let epoch = 0
            const cut = { epoch: () => ({ records: sizes[epoch++ % sizes.length]!, bytes: 100_000 }) }
            expect(await outcomeOf(events, cut)).toEqual(whole)
            expect(await outcomeOf(events, { ...cut, dies: (commit) => commit % every === 0 })).toEqual(whole)
          },
        ),
        { numRuns: 4 },
      )
    },
    120_000,
  )

  const at = 1_700_000_000_000
  const event = (id: string, visitorId: string, type: string, minutes: number) => ({
    eventId: id,
    visitorId,
    type,
    itemId: 'i1',
    transactionId: null,
    occurredAt: at + minutes * 60_000,
  })

  test.each([
    ['one partition', 1],
    ['three partitions, of which the others say nothing', 3],
  ])('mails a cart that is followed by silence by the clock: %s', async (_, partitions) => {
    const lists = Array.from({ length: partitions }, (_unused, i) =>
      i === 0 ? [event('1', 'ann', 'addtocart', 0)] : [],
    )
    const trial = new Trial({ pipeline: carts, inputs: { 'shop.events': lists } })
    await trial.settle()
    expect(trial.values('emails')).toEqual([])
    // half an hour, and a minute of lateness
    await trial.advance(30 * 60_000)
    expect(trial.values('emails')).toEqual([])
    await trial.advance(61_000)
    expect(trial.values('emails')).toMatchObject([{ key: 'ann', at: at + 30 * 60_000 }])
    await trial.advance(86_400_000)
    expect(trial.values('emails')).toHaveLength(1)
  })

  test('a purchase that comes within the half hour stops the mail, however quiet it is after that', async () => {
    const trial = new Trial({
      pipeline: carts,
      inputs: { 'shop.events': [[event('1', 'ann', 'addtocart', 0), event('2', 'ann', 'transaction', 30)]] },
    })
    await trial.settle()
    await trial.advance(86_400_000)
    expect(trial.values('emails')).toEqual([])
  })
})
