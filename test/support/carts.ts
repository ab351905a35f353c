import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Event {
  eventId: string
  visitorId: string
  type: string
  occurredAt: number
}

/** Abandoned carts straight from the definition, over all events at once: `visitor/fire time`, sorted. */
export function abandonedCarts(lines: readonly string[]): string[] {
  const events = new Map<string, Event>()
  for (const line of lines) {
    let e: Event
    try {
      e = JSON.parse(line) as Event
    } catch {
      continue
    }
    const types = ['view', 'addtocart', 'transaction']
    if (
      typeof e?.visitorId === 'string' &&
      types.includes(e.type) &&
      Number.isInteger(e.occurredAt) &&
      e.occurredAt > 0
    )
      events.set(e.eventId, e)
  }
  const byVisitor = Map.groupBy(events.values(), (e) => e.visitorId)
  const half = 30 * 60_000
  const fired = new Set<string>()
  for (const [visitor, own] of byVisitor) {
    for (const { type, occurredAt: t } of own) {
      if (type !== 'addtocart') continue
      const again = own.some((e) => e.type === 'addtocart' && e.occurredAt > t && e.occurredAt <= t + half)
      const bought = own.some((e) => e.type === 'transaction' && e.occurredAt >= t && e.occurredAt <= t + half)
      if (!again && !bought) fired.add(`${visitor}/${t + half}`)
    }
  }
  return [...fired].sort()
}

/** What is in the outbox of a data directory: `recipient/event time`, sorted, one entry a message. */
export function captured(dataDir: string, sink = 'emails'): string[] {
  const folder = join(dataDir, 'outbox', sink)
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.json'))
    .map((path) => {
      const message = JSON.parse(readFileSync(join(folder, path), 'utf8')) as { recipient: string; time: number }
      return `${message.recipient}/${message.time}`
    })
    .sort()
}
