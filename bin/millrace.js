#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { registerHooks } from 'node:module'

const [major] = process.versions.node.split('.').map(Number)
if (major < 24) {
  process.stderr.write(
    `error: millrace needs Node 24 or newer, and this is ${process.version}: run it through npx, or install a newer Node\n`,
  )
  process.exit(2)
}
const sources = new URL('../cli/main.ts', import.meta.url)
if (existsSync(sources)) {
  // in the repository, `import 'millrace'` means the sources
  registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, { ...context, conditions: [...context.conditions, 'source'] }),
  })
}
const { main } = await import(existsSync(sources) ? sources.href : new URL('../dist/cli/main.js', import.meta.url).href)
await main(process.argv)
