import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { testPipeline } from 'millrace/testing'
import { expect, test } from 'vitest'
import { profileSync } from '../../pipelines/profile-sync.ts'
import { fileSource } from '../../sources/file.ts'
import { asked } from '../support/ask.ts'
import { runToEnd } from '../support/run.ts'

const SAMPLES = join(import.meta.dirname, '../../pipelines/samples')
const pathOf = (name: string) => join(SAMPLES, `${name}.jsonl`)
const read = (name: string): any[] =>
  readFileSync(pathOf(name), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

test('the samples become the profiles that a few plain lines compute of all of them at once', async () => {
  const [web, crm, orders] = [read('web-events'), read('crm-people'), read('shop-orders')]
  const people = new Set([...web, ...crm, ...orders].map(({ personId }) => personId as string))
  const wanted = [...people].sort().flatMap((personId) => {
    const own = (list: any[]) => list.filter((each) => each.personId === personId)
    const newest = (list: any[], by = 'at') => list.toSorted((a, b) => a[by] - b[by]).at(-1)
    const gone = newest(
      own(crm).filter(({ deleted }) => deleted),
      'lsn',
    )
    const row = newest(
      own(crm).filter(({ deleted, lsn }) => !deleted && lsn > (gone?.lsn ?? 0)),
      'lsn',
    )
    const since = (list: any[]) => list.filter(({ at }) => at > (gone?.at ?? 0))
    const country = newest(since(own(web)).filter((each) => each.country !== null))
    const order = newest(since(own(orders)))
    const seen = [...since(own(web)), ...since(own(orders))].map(({ at }) => at)
    const profile = {
      personId,
      email: row?.email ?? null,
      country: (country && (!row || country.at > row.at) ? country.country : row?.country) ?? null,
      segments: row?.segments ?? [],
      lastSeen: seen.length > 0 ? Math.max(...seen) : null,
      lastOrder: order?.total ?? null,
    }
    return gone && !row && seen.length === 0 ? [] : [profile]
  })
  const dataDir = mkdtempSync(join(tmpdir(), 'millrace-profiles-'))
  try {
    const status = await runToEnd(profileSync, dataDir, {
      'web.events': fileSource({ path: pathOf('web-events') }),
      'crm.people': fileSource({ path: pathOf('crm-people') }),
      'shop.orders': fileSource({ path: pathOf('shop-orders') }),
    })
    expect(status).toMatchObject({ state: 'ended', deadLetters: 0, late: 0 })
    const rows = await asked(
      dataDir,
      'SELECT personId, email, country, segments, toUnixTimestamp64Milli(lastSeen) AS lastSeen, lastOrder FROM profiles FINAL WHERE NOT deleted ORDER BY personId',
    )
    expect(rows.map((row: any) => ({ ...row, lastSeen: row.lastSeen === null ? null : Number(row.lastSeen) }))).toEqual(
      wanted,
    )
    expect(wanted.length).toBeGreaterThan(40)
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})

const at = (minute: number) => Date.UTC(2026, 2, 2, 9, minute)

test('a customer who was deleted stays deleted for what comes late, and comes back with what is new', async () => {
  const t = await testPipeline(profileSync)
  const crm = (lsn: number, minute: number, more: object) => ({
    personId: 'ann',
    email: 'ann@example.com',
    country: 'DE',
    segments: ['vip'],
    deleted: false,
    lsn,
    at: at(minute),
    ...more,
  })
  await t.feed('crm.people', [crm(1, 0, {}), crm(2, 10, { deleted: true })])
  await t.feed('web.events', [{ eventId: '1', personId: 'ann', type: 'country', country: 'FR', at: at(9) }])
  expect(t.rows('profiles').at(-1)).toMatchObject({ personId: 'ann', deleted: true, email: null })
  expect(t.rows('rejected')).toMatchObject([
    { source: 'web', reason: 'deleted' },
    { source: 'web', reason: 'deleted' },
  ])
  await t.feed('web.events', [{ eventId: '2', personId: 'ann', type: 'visit', country: null, at: at(11) }])
  expect(t.rows('profiles').at(-1)).toMatchObject({ deleted: false, email: null, lastSeen: at(11) })
  await t.everySplit()
})
