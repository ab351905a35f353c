import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { generatedPages } from './pages.ts'

/** `npm run docs`: writes all generated pages, and takes away those whose subject is gone. */
const folder = new URL('../', import.meta.url)
const pages = await generatedPages()
mkdirSync(new URL('reference/', folder), { recursive: true })
for (const name of readdirSync(new URL('reference/', folder))) {
  if (!pages.has(`reference/${name}`)) rmSync(new URL(`reference/${name}`, folder))
}
for (const [path, text] of pages) writeFileSync(new URL(path, folder), text)
