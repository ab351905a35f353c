import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { ROOT } from '../support/project.ts'

const run = (tool: string, ...args: string[]) =>
  promisify(execFile)(join(ROOT, 'node_modules/.bin', tool), args, { cwd: ROOT }).then(
    () => '',
    ({ stdout, stderr }) => `${stdout}${stderr}`,
  )

test('the compiler has nothing to say', async () => {
  expect(await run('tsc', '--noEmit')).toBe('')
}, 60_000)

test('the linter has nothing to say', async () => {
  expect(await run('biome', 'check', '--error-on-warnings', '.')).toBe('')
}, 60_000)
