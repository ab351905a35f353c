import { Command, InvalidArgumentError } from 'commander'
import { DEFAULT_DATA } from './defaults.ts'
import { storeOption } from './store-option.ts'

const PAGE = `
Examples:
  millrace state list                        which operators keep what, how many keys, how old
  millrace state get cart v7k2m9             what the operator "cart" knows of one key
  millrace state list reconcile/clocks       one piece of an operator's state
  millrace state size                        bytes, and what is staged for the sinks

All of this works while the pipeline runs; it shows the state as of the last commit.

Exit codes: 0 done · 2 no such data directory, operator or key · 4 the state file
`

/** `millrace state list | get | size`. */
export function stateCommand(): Command {
  const command = new Command('state').description('See what operators remember.').addHelpText('after', PAGE)
  command
    .command('list')
    .description('every piece of state; with an operator, its first entries')
    .argument('[operator]', 'an operator, such as cart, or a piece of its state, such as cart/states')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--limit <N>', 'at most so many entries', whole, 50)
    .option('--json', 'one line of JSON each')
    .action(async (operator, options) => (await import('./show-state.ts')).listState(operator, options))
  command
    .command('get')
    .description('what an operator knows of a key')
    .argument('<operator>', 'an operator, such as cart')
    .argument('<key>', 'a key as the pipeline gives it')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--json', 'one line of JSON each')
    .action(async (operator, key, options) => (await import('./show-state.ts')).getState(operator, key, options))
  command
    .command('size')
    .description('bytes of the state file, of each task, and of what waits for the sinks')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--json', 'one line of JSON')
    .action(async (options) => (await import('./show-state.ts')).sizeOfState(options))
  return command
}

function whole(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}
