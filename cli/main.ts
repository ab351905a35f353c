import { Command, CommanderError } from 'commander'
import { checkCommand } from './check.ts'
import { deadLettersCommand } from './dead-letters.ts'
import { docsCommand } from './docs.ts'
import { asMillraceError, exitCodeOf } from './exit-code.ts'
import { graphCommand } from './graph.ts'
import { initCommand } from './init.ts'
import { version } from './package.ts'
import { runCommand } from './run.ts'
import { sqlCommand } from './sql.ts'
import { startCommand } from './start.ts'
import { stateCommand } from './state.ts'
import { err } from './terminal.ts'

const PAGE = `
Begin with:
  millrace init my-pipelines                                 a project of your own, with a pipeline and its test
  millrace run FILE --input NAME=events.jsonl --until-end    run a pipeline file over a file of the past
  millrace check FILE                                        look for mistakes in it before
  millrace graph FILE                                        draw it
  millrace sql "SELECT count() FROM events"                  look at what arrived
  millrace dead-letters list                                 look at what did not, and why
  millrace docs absence                                      how an operator, source or sink works

Every error has a code; docs/errors.md says what each means and which exit code it ends with.
MILLRACE_DEBUG=1 adds the stack of an error.
`

/** The command line. It sets the exit code; it never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('millrace')
    .description(
      'Stream processing that keeps an email platform in step with what people do: nothing lost, nothing doubled.',
    )
    .version(version(), '-V, --version', 'print the version')
    .helpCommand(false)
    .showHelpAfterError('(--help says what there is)')
    .addHelpText('after', PAGE)
  const commands = [
    initCommand(),
    runCommand(),
    checkCommand(),
    graphCommand(),
    sqlCommand(),
    deadLettersCommand(),
    stateCommand(),
    docsCommand(),
    startCommand(),
  ]
  for (const command of commands) program.addCommand(command)
  for (const command of all(program)) command.exitOverride().copyInheritedSettings(program)
  try {
    await program.parseAsync([...argv])
  } catch (thrown) {
    if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : 2
    else report(thrown)
  }
}

function all(command: Command): Command[] {
  return [command, ...command.commands.flatMap(all)]
}

/** Prints what went wrong as one line. */
function report(thrown: unknown): void {
  const error = asMillraceError(thrown)
  const more = error.code === 'INTERNAL' ? ' (this is a defect of Millrace; MILLRACE_DEBUG=1 shows where)' : ''
  err.write(`${err.style('red', `error ${error.code}:`)} ${error.message}${more}\n`)
  if (process.env.MILLRACE_DEBUG) err.write(`${(thrown as Error | undefined)?.stack ?? String(thrown)}\n`)
  process.exitCode = exitCodeOf(error)
}
