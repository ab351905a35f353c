import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { run } from './run.ts'
import { sql } from './sql.ts'

const ROOT = join(import.meta.dirname, '..')

/** Runs the cart pipeline on the sample of a small shop, and says in a marketer's words what happened. */
export async function start({ data }: { data: string }): Promise<void> {
  const dataDir = resolve(data)
  const again = existsSync(join(dataDir, 'state.db'))
  const sample = join(ROOT, 'pipelines/samples/shop-events.jsonl')
  const status = await run(join(ROOT, 'pipelines/cart-abandonment.ts'), {
    data,
    input: [`shop.events=${sample}`],
    untilEnd: true,
    standIn: [],
    dropState: [],
    renameState: [],
    logLevel: 'warn',
  })
  const mails = messages(join(dataDir, 'outbox/emails'))
  const [count] = (await sql('SELECT toUInt32(count()) AS rows FROM events', { data, json: true })).trim().split('\n').map((line) => JSON.parse(line) as { rows: number })
  const say = (text: string) => process.stdout.write(`${text}\n`)
  const row = (what: string, number: number | string) => say(`  ${what.padEnd(44)}${String(number).padStart(8)}`)
  say(again ? '\nThe shop again, from where it stopped: nothing is done twice.\n' : '\nA small shop, event by event:\n')
  row('events read in this run', status.read)
  row('repeats dropped', status.duplicates)
  row('malformed records set aside, with reasons', status.deadLetters)
  row('events in the warehouse, each once', count?.rows ?? 0)
  row('reminder mails in the outbox, one a cart', mails.length)
  for (const { recipient, time, properties } of mails.slice(0, 3)) {
    say(`\n  to ${recipient}, ${new Date(time).toISOString().slice(0, 16).replace('T', ' ')}: still in your cart: ${properties.items.join(', ')}`)
  }
  const at = (path: string) => relative(process.cwd(), join(dataDir, path)) || '.'
  say(`\n  warehouse     ${at('warehouse')}\n  outbox        ${at('outbox/index.html')}  (open it in a browser)\n  dead letters  npx millrace dead-letters list${data === '.millrace' ? '' : ` --data ${data}`}`)
  say(`\nTry next:\n  npx millrace sql "SELECT type, count() AS events, uniqExact(visitorId) AS visitors FROM events GROUP BY type ORDER BY events DESC"\n`)
}

interface Message {
  recipient: string
  time: number
  properties: { items: readonly string[] }
}

function messages(folder: string): Message[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.json'))
    .map((path) => JSON.parse(readFileSync(join(folder, path), 'utf8')) as Message)
    .sort((a, b) => b.time - a.time)
}
