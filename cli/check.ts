import { Command } from 'commander'
import { DEFAULT_DATA } from './defaults.ts'
import { storeOption } from './store-option.ts'

const PAGE = `
Examples:
  # before it runs: types, graph, options, and what it does with records made by its schemas
  millrace check pipelines/cart-abandonment.ts

  # with records of yours: it reads the first 2,000
  millrace check pipelines/cart-abandonment.ts --input shop.events=events.jsonl

  # for an editor or a build: one line of JSON
  millrace check pipelines/cart-abandonment.ts --json

The flow is tried in the real engine, in memory: whole, and cut after every record with restarts in between. Nothing is
written or sent, no calls are made, and what functions get is frozen. It looks for what only shows after a crash: state
in variables, the machine's clock and randomness, changed records, promises, RxJS operators that hold something back.

An error is wrong in any case; a warning will be one day; a note is as it should be, if it was meant so.

Exit codes: 0 nothing found, or notes only · 1 errors or warnings · 2 the command line, or no such file ·
3, 4 the data directory or its state file cannot be read · 6 an input cannot be read
`

/** `millrace check FILE`. */
export function checkCommand(): Command {
  return new Command('check')
    .description('Look for mistakes in a pipeline file, before it runs: each with its line, and what to write instead.')
    .argument('<file>', 'a .ts or .js file that exports a pipeline')
    .option('--data <DIR>', `compare with the state in a data directory (default: "${DEFAULT_DATA}", if there is one)`)
    .addOption(storeOption())
    .option('--input <NAME=PATH>', 'try it on records of a file, instead of made ones', many, [])
    .option('--json', 'print one line of JSON, and nothing else')
    .addHelpText('after', PAGE)
    .action(async (file, options) => (await import('./check/show-check.ts')).showCheck(file, options))
}

function many(value: string, before: readonly string[]): readonly string[] {
  return [...before, value]
}
