import assert from 'node:assert'
import test from 'node:test'
import { testPipeline } from 'millrace/testing'
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'

test('a cart is mailed', async () => {
  const t = await testPipeline(cartAbandonment)
  const at = Date.parse('2026-03-01T10:00Z')
  const added = { eventId: '1', visitorId: 'ann', type: 'addtocart', itemId: 'i', transactionId: null, occurredAt: at }
  await t.feed('shop.events', [added])
  await t.advance('1h')
  assert.equal(t.emails.length, 1)
})
