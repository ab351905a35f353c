import { Command } from 'commander'
import { DEFAULT_DATA } from './defaults.ts'

/** `millrace start`, which is `npm start`. */
export function startCommand(): Command {
  return new Command('start')
    .description('Run the cart pipeline on the sample of a small shop, and say what happened (in the repository).')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .action(async (options) => (await import('./small-shop.ts')).runSmallShop(options))
}
