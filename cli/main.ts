import { Command, CommanderError } from 'commander'
import { report } from './report.ts'

const many = (value: string, before: readonly string[]) => [...before, value]

const EXITS = `
Exit codes: 0 ended well; 2 a wrong option or file; 3 the data directory; 4 the stored state; 5 something changed under
the stored state; 6 a source or sink; 7 poison or a broken rule; 8 another worker; docs/errors.md has them all.`

/** The command line. It sets the exit code; it never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('millrace')
  program.description('Stream processing for email platforms: nothing lost, nothing doubled.').addHelpText('after', EXITS).exitOverride()
  program
    .command('run <file>')
    .description('run a pipeline file until its sources end, or for ever')
    .option('--input <name=path>', 'feed a source from a file (.jsonl, .csv, .gz) or - for standard input', many, [])
    .option('--data <dir>', 'where state and stand-ins live', '.millrace')
    .option('--until-end', 'read what there is now, deliver it, and exit')
    .option('--reopen', 'read on past the end of a source that had ended')
    .option('--require-real', 'refuse every stand-in')
    .option('--stand-in <system>', 'allow this stand-in beside real systems', many, [])
    .option('--live', 'reach people; otherwise mails are captured in the outbox')
    .option('--json', 'print one line of JSON at the end, and nothing else')
    .option('--metrics <port>', 'serve /metrics and /health; 0 takes any free port')
    .option('--drop-state <operator>', "forget a removed operator's state", many, [])
    .option('--rename-state <old=new>', "carry an operator's state to its new name", many, [])
    .option('--to-dead-letters', 'give up batches whose sink is gone')
    .option('--accept-older-state', 'go on from an older state file; sinks may get things twice')
    .option('--pipeline <name>', 'which pipeline, when the file exports several')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .addHelpText('after', '\nExample:\n  $ npx millrace run pipelines/cart-abandonment.ts --input shop.events=events.jsonl --until-end')
    .action(async (file: string, options) => {
      const { run, summary } = await import('./run.ts')
      const status = await run(file, options)
      if (options.json) process.stdout.write(`${summary(status)}\n`)
      else process.stderr.write(`${status.read} read, ${status.deadLetters} dead letters, ${status.duplicates} duplicates; ${Object.entries(status.sinks).map(([name, sink]) => `${name} ${sink.rows}`).join(', ')}\n`)
    })
  program
    .command('sql <query>')
    .description('ask the embedded warehouse, also while a pipeline runs')
    .option('--data <dir>', 'the data directory', '.millrace')
    .option('--json', 'one line of JSON a row')
    .addHelpText('after', '\nExample:\n  $ npx millrace sql "SELECT type, count() FROM events GROUP BY type"')
    .action(async (query: string, options) => {
      const { sql } = await import('./sql.ts')
      process.stdout.write(await sql(query, options))
    })
  const letters = program.command('dead-letters').description('see what was set aside, and why')
  letters
    .command('list')
    .option('--data <dir>', 'the data directory', '.millrace')
    .option('--limit <n>', 'at most so many', '100')
    .option('--json', 'one line of JSON each')
    .action(async (options) => (await import('./dead-letters.ts')).listDeadLetters(options))
  letters
    .command('show <id>')
    .option('--data <dir>', 'the data directory', '.millrace')
    .action(async (id: string, options) => (await import('./dead-letters.ts')).showDeadLetter(id, options))
  letters
    .command('export')
    .description('all dead letters as JSON lines')
    .option('--data <dir>', 'the data directory', '.millrace')
    .action(async (options) => (await import('./dead-letters.ts')).listDeadLetters({ ...options, limit: '1000000000', json: true }))
  program
    .command('start')
    .description('run the cart pipeline on the sample of a small shop')
    .option('--data <dir>', 'the data directory', '.millrace')
    .action(async (options) => (await import('./start.ts')).start(options))
  for (const command of [...program.commands, ...letters.commands]) command.exitOverride()
  try {
    await program.parseAsync([...argv])
  } catch (error) {
    process.exitCode = error instanceof CommanderError ? (error.exitCode === 0 ? 0 : 2) : report(error)
  }
}
