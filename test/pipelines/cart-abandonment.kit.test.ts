import { testPipeline } from 'millrace/testing'
import { expect, test } from 'vitest'
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'

let events = 0
const did = (visitorId: string, type: 'view' | 'addtocart' | 'transaction', clock: string, itemId = 'book') => ({
  eventId: `event ${events++}`,
  visitorId,
  type,
  itemId,
  transactionId: type === 'transaction' ? `order ${events}` : null,
  occurredAt: Date.parse(`2026-03-02T${clock}Z`),
})

test('who leaves a cart for half an hour gets one mail, with what is in it', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [
    did('ann', 'addtocart', '09:00', 'book'),
    did('ann', 'addtocart', '09:05', 'lamp'),
    did('ann', 'view', '09:10', 'sofa'),
  ])
  await shop.advance('20m')
  expect(shop.emails).toEqual([])
  await shop.advance('7m')
  expect(shop.emails).toMatchObject([
    { recipient: 'ann', event: 'Cart Abandoned', properties: { items: ['book', 'lamp'] } },
  ])
  await shop.advance('2d')
  expect(shop.emails).toHaveLength(1)
})

test('who buys in time gets none', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [did('ann', 'addtocart', '09:00'), did('ann', 'transaction', '09:30')])
  await shop.advance('1d')
  expect(shop.emails).toEqual([])
})

test('a purchase that is reported half a minute late still counts', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [
    did('ann', 'addtocart', '09:00:00'),
    did('bob', 'view', '09:30:20'),
    did('ann', 'transaction', '09:29:50'),
  ])
  await shop.advance('1d')
  expect(shop.emails).toEqual([])
})

test('the same event delivered twice is one row, and one mail', async () => {
  const shop = await testPipeline(cartAbandonment)
  const added = did('ann', 'addtocart', '09:00')
  await shop.feed('shop.events', [added, added])
  await shop.feed('shop.events', [added])
  await shop.advance('1h')
  expect(shop.rows('events')).toEqual([added])
  expect(shop.emails).toHaveLength(1)
})

test('what is no event is set aside with the reason, and the others go on', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [
    { ...did('ann', 'addtocart', '09:00'), type: 'stolen' },
    did('bob', 'addtocart', '09:01'),
  ])
  await shop.advance('1h')
  expect(shop.deadLetters).toMatchObject([{ source: 'shop.events', reason: expect.stringContaining('type') }])
  expect(shop.emails.map(({ recipient }) => recipient)).toEqual(['bob'])
})

test('a crash in the middle changes nothing, and neither does a lost answer of the provider', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [did('ann', 'addtocart', '09:00')])
  expect(shop.state('cart', 'ann')).toEqual({ items: ['book'], type: 'addtocart' })
  await shop.crash()
  expect(shop.state('cart', 'ann')).toEqual({ items: ['book'], type: 'addtocart' })
  shop.fail('emails', 'unknown')
  shop.fail('carts', 'notSent')
  await shop.advance('1h')
  await shop.crash()
  await shop.advance('1h')
  expect(shop.emails).toHaveLength(1)
  expect(shop.rows('carts')).toHaveLength(1)
})

test('a mail that the provider refuses is a dead letter', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [did('ann', 'addtocart', '09:00')])
  shop.fail('emails', 'rejected')
  await shop.advance('1h')
  expect(shop.emails).toEqual([])
  expect(shop.deadLetters).toMatchObject([{ where: 'emails', reason: expect.stringContaining('the test refused it') }])
})

test('it gives the same wherever it is cut, and whenever it is killed', async () => {
  const shop = await testPipeline(cartAbandonment)
  await shop.feed('shop.events', [
    did('ann', 'addtocart', '09:00'),
    did('bob', 'addtocart', '09:10'),
    did('ann', 'transaction', '09:12'),
    did('cyd', 'addtocart', '10:00'),
  ])
  await shop.advance('1h')
  await shop.everySplit()
  expect(shop.emails.map(({ recipient }) => recipient)).toEqual(['bob', 'cyd'])
})
