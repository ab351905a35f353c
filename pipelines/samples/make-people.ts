import { writeFileSync } from 'node:fs'

/** Makes the samples of `profile-sync` and `engagement-hourly`: `npx node pipelines/samples/make-people.ts`. The same at every run. */
let seed = 20_260_302
const chance = (): number => {
  seed = (seed * 48_271) % 2_147_483_647
  return seed / 2_147_483_647
}
const whole = (from: number, to: number) => from + Math.floor(chance() * (to - from + 1))
const one = <T>(list: readonly T[]): T => list[whole(0, list.length - 1)]!

const START = Date.UTC(2026, 2, 2, 8)
const MINUTE = 60_000
const COUNTRIES = ['DE', 'AT', 'CH', 'FR', 'NL']
const SEGMENTS = ['vip', 'new', 'books', 'garden', 'sale']
const CAMPAIGNS = ['spring', 'welcome', 'winback']
const people = Array.from({ length: 60 }, (_, i) => `p${i + 1}`)
const web: object[] = []
const crm: object[] = []
const orders: object[] = []
const mails: object[] = []
let lsn = 1_000

for (let minute = 0; minute < 480; minute++) {
  const at = () => START + minute * MINUTE + whole(0, 59_999)
  for (let i = whole(0, 3); i > 0; i--) {
    const country = chance() < 0.3
    web.push({
      eventId: `w${web.length}`,
      personId: one(people),
      type: country ? 'country' : 'visit',
      country: country ? one(COUNTRIES) : null,
      at: at(),
    })
  }
  if (chance() < 0.3) {
    const deleted = chance() < 0.08
    const row = {
      email: chance() < 0.1 ? null : `mail${whole(1, 999)}@example.com`,
      country: one([...COUNTRIES, null]),
      segments: SEGMENTS.filter(() => chance() < 0.4),
    }
    crm.push({
      personId: one(people),
      ...(deleted ? { email: null, country: null, segments: [] } : row),
      deleted,
      lsn: lsn++,
      at: at(),
    })
  }
  if (minute % 60 === 0) {
    const campaign = CAMPAIGNS[(minute / 60) % 3]!
    for (const personId of people)
      mails.push({ eventId: `m${mails.length}`, personId, campaign, type: 'delivered', at: at() })
  }
  for (let i = whole(0, 2); i > 0; i--) {
    const personId = one(people)
    const campaign = CAMPAIGNS[Math.floor(minute / 60) % 3]!
    const click = chance() < 0.4
    mails.push({ eventId: `m${mails.length}`, personId, campaign, type: click ? 'click' : 'open', at: at() })
    if (click && chance() < 0.4)
      orders.push({
        orderId: `o${orders.length}`,
        personId,
        total: whole(500, 20_000) / 100,
        at: at() + whole(1, 150) * MINUTE,
      })
  }
  if (chance() < 0.1)
    orders.push({ orderId: `o${orders.length}`, personId: one(people), total: whole(500, 20_000) / 100, at: at() })
}

/** As they come in: by time, some up to four minutes late, and one in forty twice. */
function arrived(list: readonly object[]): object[] {
  return list
    .flatMap((each) => (chance() < 0.025 ? [each, each] : [each]))
    .map((each) => ({ each, when: (each as { at: number }).at + (chance() < 0.2 ? whole(0, 4 * MINUTE) : 0) }))
    .sort((a, b) => a.when - b.when)
    .map(({ each }) => each)
}

for (const [name, list] of Object.entries({
  'web-events': web,
  'crm-people': crm,
  'shop-orders': orders,
  'esp-events': mails,
}))
  writeFileSync(
    new URL(`${name}.jsonl`, import.meta.url),
    arrived(list)
      .map((each) => `${JSON.stringify(each)}\n`)
      .join(''),
  )
