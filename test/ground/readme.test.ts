import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { blocksOf } from '../support/examples.ts'
import { ROOT, textOf } from '../support/project.ts'

const folder = mkdtempSync(join(tmpdir(), 'millrace-readme-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Durations and rates differ from run to run; the page shows those of one. */
const steady = (text: string) => text.replace(/\d[\d.,]*\s?(ms|s|events\/s|records\/s|\/s)\b/g, 'N $1').trim()

test('the README shows what npm start prints', { timeout: 60_000 }, async () => {
  const start = [join(ROOT, 'bin/millrace.js'), 'start']
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' }
  const { stdout } = await promisify(execFile)(process.execPath, start, { cwd: folder, env })
  const [block] = blocksOf(textOf('README.md'), 'text')
  if (process.env.README === 'write') {
    writeFileSync(join(ROOT, 'README.md'), textOf('README.md').replace(block!.code, `${stdout.trim()}\n`))
    return
  }
  expect(
    steady(block!.code),
    'README=write npx vitest run test/ground/readme.test.ts brings the README up to date',
  ).toBe(steady(stdout))
})
