import type { Reporter, TestModule } from 'vitest/node'
import { NEEDS } from './servers/needs.ts'

/** Ends a run with one line of counts, and names what was skipped; a suite that wants a server, once. */
export class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const counts = { passed: 0, failed: errors.length, skipped: 0 }
    const skipped = new Set<string>()
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests()].length === 0) counts.failed++
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') counts.passed++
        else if (state === 'failed') counts.failed++
        else {
          counts.skipped++
          skipped.add(wanting(test.fullName) ?? test.fullName)
        }
      }
    }
    if (skipped.size > 0) process.stdout.write(`\nSKIPPED:\n${[...skipped].map((name) => `  ${name}`).join('\n')}\n`)
    process.on('exit', () =>
      process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`),
    )
  }
}

/** The part of a test's name up to what its suite needs and did not get. */
function wanting(fullName: string): string | undefined {
  const at = fullName.indexOf(NEEDS)
  return at < 0 ? undefined : fullName.slice(0, fullName.indexOf(']', at) + 1)
}
