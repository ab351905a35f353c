import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MillraceError } from '../core/errors.ts'
import { systemRuntime } from '../core/runtime.ts'
import { ask } from './ask-warehouse.ts'
import { dataFlag, shortPath, statePath } from './data-dir.ts'
import { count } from './format.ts'
import { inputsOf } from './inputs.ts'
import { loadPipeline } from './load-pipeline.ts'
import { terminalLogger } from './loggers.ts'
import { PACKAGE_DIR } from './package.ts'
import { drawProgress, liveLine } from './progress.ts'
import { runPipeline } from './run-pipeline.ts'
import { err, out, plain } from './terminal.ts'

interface Message {
  readonly recipient: string
  readonly time: number
  readonly properties: { readonly items: readonly string[] }
}

const QUERY =
  'SELECT type, count() AS events, uniqExact(visitorId) AS visitors FROM events GROUP BY type ORDER BY events DESC'

/**
 * Runs the cart pipeline on the sample of a small shop to its end, and says in a marketer's words what happened.
 *
 * @throws MillraceError NOT_FOUND in an installed package, which does not hold the sample
 */
export async function runSmallShop({ data }: { data: string }): Promise<void> {
  const sample = join(PACKAGE_DIR, 'pipelines/samples/shop-events.jsonl')
  if (!existsSync(sample)) {
    throw new MillraceError(
      'NOT_FOUND',
      'the sample of a small shop is in the repository only: run a pipeline file of your own with millrace run FILE',
    )
  }
  const again = existsSync(statePath(resolve(data)))
  const pipeline = await loadPipeline(join(PACKAGE_DIR, 'pipelines/cart-abandonment.ts'))
  const line = liveLine(err)
  const status = await runPipeline({
    pipeline,
    data,
    inputs: inputsOf(pipeline, [`shop.events=${sample}`], true),
    untilEnd: true,
    logger: terminalLogger('warn', line, err),
    ...(err.isTTY ? { started: (worker) => drawProgress(() => worker.status(), systemRuntime, line) } : {}),
  }).finally(() => line.clear())

  const dataDir = resolve(data)
  const { rows } = await ask('SELECT count() FROM events', data)
  const mails = messages(join(dataDir, 'outbox/emails'))
  out.write(
    again
      ? '\nThe shop again, from where it stopped: nothing is done twice.\n\n'
      : '\nA small shop, event by event:\n\n',
  )
  for (const [what, number] of [
    ['events read in this run', status.read],
    ['repeats dropped', status.duplicates],
    ['malformed records set aside, with reasons', status.deadLetters],
    ['fresh carts written for the web shop', status.sinks.carts!.rows],
    ['events in the warehouse, each once', Number(rows[0]?.[0] ?? 0)],
    ['reminder mails in the outbox, one a cart', mails.length],
  ] as const) {
    out.write(`  ${what.padEnd(44)}${out.style('bold', count(number).padStart(8))}\n`)
  }
  for (const { recipient, time, properties } of mails.slice(0, 3)) {
    const when = new Date(time).toISOString().slice(0, 16).replace('T', ' ')
    out.write(`\n  to ${plain(recipient)}, ${when}: still in your cart: ${plain(properties.items.join(', '))}\n`)
  }
  const at = (path: string) => shortPath(join(dataDir, path))
  out.write(`
  warehouse     ${at('warehouse')}
  outbox        ${at('outbox/index.html')}  (open it in a browser)
  dead letters  npx millrace dead-letters list${dataFlag(data)}

Try next:
  npx millrace sql "${QUERY}"${dataFlag(data)}

`)
}

function messages(folder: string): Message[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.json'))
    .map((path) => JSON.parse(readFileSync(join(folder, path), 'utf8')) as Message)
    .sort((a, b) => b.time - a.time)
}
