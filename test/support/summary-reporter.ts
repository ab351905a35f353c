import type { Reporter, TestModule } from 'vitest/node'

/** Ends a run with one line of counts, and names what was skipped. */
export class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const counts = { passed: 0, failed: errors.length, skipped: 0 }
    const skipped: string[] = []
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests()].length === 0) counts.failed++
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') counts.passed++
        else if (state === 'failed') counts.failed++
        else {
          counts.skipped++
          skipped.push(test.fullName)
        }
      }
    }
    if (skipped.length > 0) process.stdout.write(`\nSKIPPED:\n${skipped.map((name) => `  ${name}`).join('\n')}\n`)
    process.on('exit', () =>
      process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`),
    )
  }
}
