import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The package's own folder: above `cli/` in the repository, above `dist/cli/` when it is installed. */
export const PACKAGE_DIR = fileURLToPath(
  ['../', '../../']
    .map((path) => new URL(path, import.meta.url))
    .find((url) => existsSync(new URL('package.json', url)))!,
)

/** The package's version. */
export function version(): string {
  return (JSON.parse(readFileSync(`${PACKAGE_DIR}/package.json`, 'utf8')) as { version: string }).version
}
