#!/usr/bin/env node
import { existsSync } from 'node:fs'
// by its whole, because an old Node has no registerHooks, and must come as far as the message
import * as nodeModule from 'node:module'

const [major] = process.versions.node.split('.').map(Number)
if (major < 24) {
  process.stderr.write(
    `error: millrace needs Node 24 or newer, and this is ${process.version}: install a newer Node, or, for one project, npm install --save-dev node@26 and npm run\n`,
  )
  process.exit(2)
}
const sources = new URL('../cli/main.ts', import.meta.url)
if (existsSync(sources)) {
  // in the repository, `import 'millrace'` means the sources
  nodeModule.registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, { ...context, conditions: [...context.conditions, 'source'] }),
  })
}
const { main } = await import(existsSync(sources) ? sources.href : new URL('../dist/cli/main.js', import.meta.url).href)
await main(process.argv)
