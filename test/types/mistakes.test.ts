import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { workspace } from '../support/examples.ts'
import { ROOT, textOf } from '../support/project.ts'

const EVENT =
  '{ eventId: string; visitorId: string; type: "addtocart" | "transaction" | "view"; itemId: string; transactionId: string | null; occurredAt: number; }'

/** What authors get wrong, and what the compiler says to it at that place: the first line of its message. */
const MISTAKES: readonly { readonly what: string; readonly code: string; readonly says: string }[] = [
  {
    what: 'a field that the record does not have',
    code: "events.pipe(filter((e) => e.typ === 'view'))",
    says: `Property 'typ' does not exist on type '${EVENT}'. Did you mean 'type'?`,
  },
  {
    what: 'a value that a field never has',
    code: "events.pipe(absence({ after: (e) => e.type === 'addtocart', unless: (e) => e.type === 'order', within: '30m' }))",
    says: `This comparison appears to be unintentional because the types '"addtocart" | "transaction" | "view"' and '"order"' have no overlap.`,
  },
  {
    what: 'a source without a key',
    code: "fromKafka({ topic: 'x', schema: ShopEvent, time: (e) => e.occurredAt })",
    says: "Property 'key' is missing in type",
  },
  {
    what: 'a source without a time',
    code: "fromKafka({ topic: 'x', schema: ShopEvent, key: (e) => e.visitorId })",
    says: "Property 'time' is missing in type",
  },
  {
    what: 'a promise given to map',
    code: 'events.pipe(map(async (e) => e.itemId))',
    says: `Type 'Promise<string>' is not assignable to type 'Promise<string> & "a promise: use mapAsync"'.`,
  },
  {
    what: 'an empty list in a seed',
    code: "events.pipe(scan({ seed: { items: [] }, step: (cart, e) => ({ items: [...cart.items, e.itemId] }), ttl: '7d' }))",
    says: `Type '{ items: never[]; }' is not assignable to type '{ items: never[]; } & "an empty list does not show what will be in it: give \`state\`, a schema"'.`,
  },
  {
    what: 'a duration in words',
    code: "events.pipe(dedup({ by: (e) => e.eventId, within: '24 hours' }))",
    says: `Type '"24 hours"' is not assignable to type '\`\${number}d\` | \`\${number}h\` | \`\${number}m\` | \`\${number}ms\` | \`\${number}s\`'.`,
  },
  {
    what: 'an option that was forgotten',
    code: "events.pipe(absence({ after: (e) => e.type === 'addtocart', within: '30m' }))",
    says: "Property 'unless' is missing in type",
  },
  {
    what: 'an option that there is not',
    code: "events.pipe(dedup({ within: '24h', keys: 'x' }))",
    says: "Object literal may only specify known properties, and 'keys' does not exist in type 'DedupOptions<",
  },
  {
    what: 'an operator that does not fit what comes before it',
    code: "events.pipe(map((e) => e.itemId), filter((e) => e.type === 'view'))",
    says: "Property 'type' does not exist on type 'string'.",
  },
  {
    what: 'a side stream that there is not',
    code: "events.pipe(dedup({ by: (e) => e.eventId, within: '24h' })).side('lat')",
    says: `Argument of type '"lat"' is not assignable to parameter of type '"late"'.`,
  },
  {
    what: 'a column to sort by that the row does not have',
    code: "events.to(clickhouse({ table: 'events', orderBy: ['visitor'] }))",
    says: `Type '"visitor"' is not assignable to type '"eventId" | "itemId" | "occurredAt" | "transactionId" | "type" | "visitorId"'. Did you mean '"visitorId"'?`,
  },
  {
    what: 'a column that was forgotten',
    code: "events.pipe(map((e) => ({ id: e.itemId, at: e.occurredAt }))).to(clickhouse({ table: 'items', columns: { id: 'String' } }))",
    says: `Property 'at' is missing in type '{ id: "String"; }' but required in type 'Columns<NoInfer<{ id: string; at: number; }>>'.`,
  },
  {
    what: 'a column of another type than its field',
    code: "events.pipe(map((e) => ({ at: e.occurredAt }))).to(clickhouse({ table: 'items', columns: { at: 'String' } }))",
    says: `Type '"String"' is not assignable to type '"DateTime" |`,
  },
  {
    what: 'rows that are no objects',
    code: "events.pipe(map((e) => e.itemId)).to(clickhouse({ table: 'items' }))",
    says: "Argument of type 'Sink<Row>' is not assignable to parameter of type 'Sink<string>'",
  },
  {
    what: 'a mail to somebody the record does not name',
    code: "events.to(esp({ event: 'x', recipient: (e) => e.email, expiresAfter: '1h' }))",
    says: `Property 'email' does not exist on type '${EVENT}'.`,
  },
  {
    what: 'a cache without a time to live',
    code: 'events.to(redis({ key: (e) => e.visitorId }))',
    says: "Property 'ttl' is missing in type",
  },
  {
    what: 'a field of an aggregate that the record does not have',
    code: "events.pipe(tumbling({ size: '1h', aggregate: (a) => ({ n: a.count(), items: a.distinct((e) => e.item) }) }))",
    says: `Property 'item' does not exist on type '${EVENT}'.`,
  },
  {
    what: 'a source that nothing is merged from',
    code: "merge({ crm: events.pipe(patch((e) => ({ item: e.itemId }))) }).pipe(reconcile({ trust: ['crn'] }))",
    says: `Type '"crn"' is not assignable to type '"crm"'.`,
  },
  {
    what: 'a rule that does not fit its field',
    code: "merge({ crm: events.pipe(patch((e) => ({ item: e.itemId }))) }).pipe(reconcile({ trust: ['crm'], fields: { item: 'max' } }))",
    says: `Type '"max"' is not assignable to type 'Rule<string, "crm"> | undefined'.`,
  },
  {
    what: 'a right record that a left join may not have',
    code: "events.pipe(join(events, { after: '1h', kind: 'left' }), map(({ right }) => right.itemId))",
    says: `'right' is possibly 'null'.`,
  },
  {
    what: 'a key that some records do not have',
    code: 'events.pipe(keyBy((e) => e.transactionId))',
    says: `Type 'string | null' is not assignable to type 'Key'.`,
  },
  {
    what: 'a stream in the place of an output',
    code: "pipeline('x', { events })",
    says: "Property 'sink' is missing in type 'SourceStream<",
  },
]

const HEAD = `import { merge, pipeline } from 'millrace'
import { absence, dedup, filter, join, keyBy, map, patch, reconcile, scan, tumbling } from 'millrace/operators'
import { clickhouse, esp, redis } from 'millrace/sinks'
import { fromKafka } from 'millrace/sources'
import { ShopEvent } from '../pipelines/schemas/shop-event.ts'
const events = fromKafka({ topic: 'shop.events', schema: ShopEvent, key: (e) => e.visitorId, time: (e) => e.occurredAt })
`

const folder = mkdtempSync(join(tmpdir(), 'millrace-mistakes-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('the compiler', () => {
  const said = new Map<string, string[]>()

  beforeAll(async () => {
    const files = MISTAKES.map(({ code }, n) => ({
      path: `mistakes/m${n}.ts`,
      text: `${HEAD}export const it = ${code}\n`,
    }))
    workspace(folder, [
      ...files,
      {
        path: 'mistakes/none.ts',
        text: `${HEAD}export const it = [merge, pipeline, absence, dedup, filter, join, keyBy, map, patch, reconcile, scan, tumbling, clickhouse, esp, redis, events]\n`,
      },
    ])
    const { compilerOptions } = JSON.parse(textOf('tsconfig.json'))
    const settings = { ...compilerOptions, typeRoots: [join(ROOT, 'node_modules/@types')] }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: settings, include: ['mistakes'] }))
    const { stdout } = await promisify(execFile)(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.'], {
      cwd: folder,
    }).catch((error: { stdout: string }) => error)
    for (const line of stdout.split('\n')) {
      const [, file, at, text] = /^mistakes\/(\w+)\.ts\((\d+),\d+\): error TS\d+: (.*)$/.exec(line) ?? []
      if (file) said.set(file, [...(said.get(file) ?? []), `${at}: ${text}`])
    }
  }, 60_000)

  test.each(MISTAKES.map((mistake, n) => [mistake.what, mistake, `m${n}`] as const))(
    'says of %s what it is, where it is written',
    (_, { says }, file) => {
      expect(said.get(file)?.[0]?.startsWith(`7: ${says}`), said.get(file)?.[0]).toBe(true)
    },
  )

  test('says nothing of what is right', () => {
    expect(said.get('none')).toBeUndefined()
  })
})
