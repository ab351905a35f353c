import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { renderPage } from '../../cli/markdown.ts'
import { type Place, place } from '../support/command.ts'

let here: Place
beforeEach(() => {
  here = place()
})
afterEach(() => here.remove())

describe('millrace docs', () => {
  test.each(['absence', 'fromKafka', 'kafka', 'fromFile', 'file', 'clickhouse', 'flatMap', 'errors'])(
    'prints the page of %s',
    async (name) => {
      const { code, out } = await here.run('docs', name)
      expect(code).toBe(0)
      expect(out.toLowerCase()).toMatch(new RegExp(`^# ${name.toLowerCase()}\\n`))
      expect(out.length).toBeGreaterThan(500)
    },
  )

  test('lists what there is', async () => {
    const { code, out } = await here.run('docs')
    expect(code).toBe(0)
    for (const name of ['absence', 'merge', 'fromFile', 'clickhouse']) expect(out).toContain(`\`${name}\``)
  })

  test.each([
    ['absents', 'absence'],
    ['abscence', 'absence'],
    ['tumblin', 'tumbling'],
    ['keyby', undefined],
  ])('says which names come near to %s', async (wanted, near) => {
    const { code, err } = await here.run('docs', wanted)
    expect(code).toBe(near === undefined ? 0 : 2)
    if (near !== undefined) expect(err).toContain(`no page on "${wanted}"; near to it: ${near}`)
  })
})

test('on a terminal a page has no marks, and its tables are tables', () => {
  const on = {
    width: 80,
    isTTY: true,
    write: () => undefined,
    style: (style: string, text: string) => `<${style}>${text}</>`,
  }
  const page =
    '# absence\n\n![x](y.svg)\n\nTells [when](a.md) `it`\ndid **not** happen.\n\n```ts\na(1)\n\nb`x`\n```\n\n| a | b |\n|---|---|\n| `x \\| y` | z |\n'
  expect(renderPage(page, on)).toBe(
    '<cyan>absence</>\n\nTells when it did not happen.\n\n    a(1)\n    \n    b`x`\n\n┌───────┬───┐\n│ <bold>a    </> │ <bold>b</> │\n├───────┼───┤\n│ x | y │ z │\n└───────┴───┘\n',
  )
})
