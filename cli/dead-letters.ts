import { Command, InvalidArgumentError } from 'commander'
import { DEFAULT_DATA } from './defaults.ts'
import { storeOption } from './store-option.ts'

const PAGE = `
Examples:
  millrace dead-letters list --where decode
  millrace dead-letters show 3
  millrace dead-letters export > dead-letters.jsonl

A dead letter is a record, a timer or a sink's row that could not be worked on: it is kept whole, with where it failed and
why, and counted. All of this works while the pipeline runs.

Exit codes: 0 done · 2 no such data directory or dead letter · 4 the state file
`

/** `millrace dead-letters list | show | export`. */
export function deadLettersCommand(): Command {
  const command = new Command('dead-letters').description('See what was set aside, and why.').addHelpText('after', PAGE)
  command
    .command('list')
    .description('the first of them, one a line')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--where <NAME>', 'only those that failed there: decode, or the name of an operator or output')
    .option('--task <TASK>', 'only those of one task, such as cart-abandonment/main/0')
    .option('--after <ID>', 'those that follow this one', whole)
    .option('--limit <N>', 'at most so many', whole, 50)
    .option('--json', 'one line of JSON each')
    .action(async (options) => (await import('./show-dead-letters.ts')).listDeadLetters(options))
  command
    .command('show')
    .description('one of them whole: its reason, its place and its bytes')
    .argument('<id>', 'its number in the list', whole)
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--json', 'as one line of JSON')
    .action(async (id, options) => (await import('./show-dead-letters.ts')).showDeadLetter(id, options))
  command
    .command('export')
    .description('all of them, as lines of JSON with their text, or base64 where they are not UTF-8')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--where <NAME>', 'only those that failed there')
    .option('--task <TASK>', 'only those of one task')
    .action(async (options) => (await import('./show-dead-letters.ts')).exportDeadLetters(options))
  return command
}

function whole(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}
