import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { MillraceError } from '../core/errors.ts'
import { version } from './package.ts'
import { out, plain } from './terminal.ts'

/**
 * Writes a project into an empty folder.
 *
 * @throws MillraceError BAD_OPTION when the folder is not empty
 */
export function makeProject(dir: string, { from = `^${version()}` }: { from?: string }): void {
  const folder = resolve(dir)
  // what lies beside this folder does not lie beside the new one's package.json
  const spec = existsSync(resolve(from)) ? `file:${resolve(from)}` : from
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new MillraceError('BAD_OPTION', `${plain(dir)} is not empty: name a folder that is, or that is not there yet`)
  const name =
    basename(folder)
      .toLowerCase()
      .replaceAll(/[^a-z0-9-]+/g, '-')
      .replaceAll(/^-+|-+$/g, '') || 'pipelines'
  for (const [path, text] of Object.entries(files(name, spec))) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text, { flag: 'wx' })
  }
  out.write(`${plain(dir)} is there. Next:

  cd ${plain(dir)}
  npm install
  npm start          the sample of events becomes mails, in .millrace/outbox/index.html
  npm test           the pipeline, tested like any function
  npm run check      its mistakes, before production finds them
`)
}

/** A file's text, which stands indented in this one. */
const page = (text: string) => text.replaceAll(/^ {2}/gm, '').trimStart()
const json = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`

function files(name: string, from: string): Record<string, string> {
  return {
    'package.json': json({
      name,
      private: true,
      type: 'module',
      engines: { node: '>=24' },
      scripts: {
        start: 'millrace run pipelines/left-carts.ts --input shop.events=samples/shop-events.jsonl --until-end',
        test: 'node --test "test/*.test.ts"',
        check: 'millrace check pipelines/left-carts.ts --input shop.events=samples/shop-events.jsonl',
        graph: 'millrace graph pipelines/left-carts.ts',
      },
      dependencies: { millrace: from, zod: '^4.6.7' },
      devDependencies: { '@types/node': '^26.6.6', typescript: '^7.0.2' },
    }),
    'pipelines/left-carts.ts': PIPELINE,
    'test/left-carts.test.ts': TEST,
    'samples/shop-events.jsonl': SAMPLE.map((line) => JSON.stringify(line))
      .join('\n')
      .concat('\n'),
    'tsconfig.json': json({
      compilerOptions: {
        target: 'es2024',
        module: 'nodenext',
        strict: true,
        noUncheckedIndexedAccess: true,
        erasableSyntaxOnly: true,
        verbatimModuleSyntax: true,
        allowImportingTsExtensions: true,
        skipLibCheck: true,
        noEmit: true,
        types: ['node'],
      },
      include: ['pipelines', 'test'],
    }),
    '.gitignore': 'node_modules/\n.millrace/\nout/\n',
    '.editorconfig':
      'root = true\n\n[*]\nindent_style = space\nindent_size = 2\nend_of_line = lf\ninsert_final_newline = true\n',
    '.vscode/settings.json': json({
      'typescript.tsdk': 'node_modules/typescript/lib',
      'files.exclude': { '.millrace': true },
    }),
    '.github/workflows/ci.yml': CI,
    'README.md': `# ${name}

\`\`\`sh
npm install
npm start          # the sample, to its end: .millrace/outbox/index.html has the mails, out/ the events
npm test
npm run check      # types, topology, state, and whether it gives the same wherever it is cut
npm run graph
npx millrace docs absence
\`\`\`

\`pipelines/left-carts.ts\` is the pipeline. Without \`--input\` it reads the topic \`shop.events\`, or what stands in for it.
`,
  }
}

const PIPELINE = page(`
  import { pipeline } from 'millrace'
  import { absence, dedup } from 'millrace/operators'
  import { esp, file } from 'millrace/sinks'
  import { fromKafka } from 'millrace/sources'
  import { z } from 'zod'

  const ShopEvent = z.object({ id: z.string(), visitor: z.string(), type: z.enum(['view', 'cart', 'order']), at: z.number() })

  const events = fromKafka({ topic: 'shop.events', schema: ShopEvent, key: (e) => e.visitor, time: (e) => e.at, lateness: '1m' })
    .pipe(dedup({ by: (e) => e.id, within: '24h' }))
  const left = events.pipe(absence({ after: (e) => e.type === 'cart', unless: (e) => e.type === 'order', within: '30m' }))

  export const leftCarts = pipeline('left-carts', {
    events: events.to(file({ path: 'out/events.jsonl' })),
    mails: left.to(esp({ event: 'Cart Abandoned', recipient: (c) => c.key, expiresAfter: '6h' })),
  })
`)

const TEST = page(`
  import assert from 'node:assert/strict'
  import test from 'node:test'
  import { testPipeline } from 'millrace/testing'
  import { leftCarts } from '../pipelines/left-carts.ts'

  const at = (clock: string) => Date.parse(\`2026-03-02T\${clock}Z\`)

  test('who leaves a cart for half an hour gets a mail, and who orders does not', async () => {
    const shop = await testPipeline(leftCarts)
    await shop.feed('shop.events', [
      { id: '1', visitor: 'ann', type: 'cart', at: at('09:00') },
      { id: '2', visitor: 'bob', type: 'cart', at: at('09:05') },
      { id: '3', visitor: 'bob', type: 'order', at: at('09:20') },
    ])
    await shop.advance('1h')
    assert.deepEqual(shop.emails.map(({ recipient }) => recipient), ['ann'])
    await shop.everySplit()
  })
`)

const CI = page(`
  name: ci
  on: [push, pull_request]
  jobs:
    test:
      runs-on: ubuntu-latest
      steps:
        - uses: actions/checkout@v4
        - uses: actions/setup-node@v4
          with: { node-version: 26, cache: npm }
        - run: npm ci
        - run: npm run check
        - run: npm test
`)

const MORNING = Date.UTC(2026, 2, 2, 9)
/** Four people in a morning: one order, and one event that comes twice. */
const SAMPLE = [
  ['ann', 'view', 0],
  ['ann', 'cart', 2],
  ['bob', 'cart', 5],
  ['bob', 'cart', 5],
  ['cyd', 'view', 9],
  ['bob', 'order', 21],
  ['cyd', 'cart', 30],
  ['dan', 'view', 31],
  ['dan', 'view', 75],
].map(([visitor, type, minute]) => ({
  id: `${visitor}-${type}-${minute}`,
  visitor,
  type,
  item: 'book',
  at: MORNING + Number(minute) * 60_000,
}))
