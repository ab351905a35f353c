import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { errorsPage } from '../../docs/generate-errors.ts'

test('the page of errors says what the code says', () => {
  const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  expect(page, 'npm run docs brings it up to date').toBe(errorsPage())
})
