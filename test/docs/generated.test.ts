import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { diagramOf, drawn } from '../../docs/generate/marbles.ts'
import { generatedPages } from '../../docs/generate/pages.ts'
import { readEntries } from '../../docs/generate/reference.ts'

const docs = new URL('../../docs/', import.meta.url)
const entries = readEntries()
const pages = await generatedPages()

test.each([...pages.keys()])('%s says what the code says', (path) => {
  expect(readFileSync(new URL(path, docs), 'utf8'), '`npm run docs` brings it up to date').toBe(pages.get(path))
})

test('there is a page for each, and none for what is gone', () => {
  const written = readdirSync(new URL('reference/', docs)).map((name) => `reference/${name}`)
  expect(written.sort(), '`npm run docs` brings them up to date').toEqual(
    [...pages.keys()].filter((path) => path.startsWith('reference/')).sort(),
  )
  expect(entries.length).toBeGreaterThan(18)
  const own = [...pages].filter(([path]) => path.endsWith('.md')).map(([, page]) => /^# (.*)$/m.exec(page)![1])
  for (const { name } of entries) expect(own).toContain(name)
})

test.each(entries.map((entry) => [entry.name, entry] as const))('%s is explained in full', (_, entry) => {
  expect(entry.text.length, 'a doc comment').toBeGreaterThan(60)
  expect(entry.examples.map(({ code }) => code).join().length, 'an @example').toBeGreaterThan(20)
  for (const { name, meaning, fallback } of entry.options)
    expect(`${meaning}${fallback ?? ''}`, `what ${name} means`).not.toBe('')
  for (const { name, required, fallback, meaning } of entry.options)
    expect(required || fallback !== undefined || meaning !== '', `the default of ${name}`).toBe(true)
  if (entry.kind === 'operator') {
    expect(entry.text, 'what it keeps').toMatch(/State: |Keeps nothing|The state is durable|Keeps no state/)
    expect(drawn(entry.name) || entry.name === 'eventTime', 'a marble diagram').toBe(true)
  }
  if (entry.kind === 'sink') expect(entry.guarantee).toMatch(/^(idempotent|windowed|ledger)$/)
})

test('the times under a diagram are whole minutes and hours', () => {
  for (const [path, svg] of pages) {
    for (const [, time] of svg.matchAll(/class="time"[^>]*>([^<]*)</g)) expect(time, path).toMatch(/^(\d+m|\d+h\d*)$/)
  }
})

test('a diagram shows what the operator gives, when it gives it', async () => {
  const { inputs, outputs } = await diagramOf('absence')
  expect(inputs[0]!.marbles).toHaveLength(4)
  expect(outputs).toEqual([{ name: 'gives', marbles: [{ key: 'a', text: 'a left', minute: 30 }] }])
})
