import { Command, Option } from 'commander'
import { GRAPH_FORMATS } from './defaults.ts'

const PAGE = `
Examples:
  millrace graph pipelines/cart-abandonment.ts                      # a tree, in the terminal
  millrace graph pipelines/cart-abandonment.ts --format mermaid     # for a page of Markdown
  millrace graph pipelines/cart-abandonment.ts --out graph.svg      # a picture, for light and dark

It shows what the file describes, without running it: sources with their systems, operators with their state and how long
it lives, what is laid aside, and sinks with their guarantees. What is real and what a stand-in is told by the environment.

Exit codes: 0 done · 2 the command line or the pipeline file · 3 the file cannot be written
`

/** `millrace graph FILE`. */
export function graphCommand(): Command {
  return new Command('graph')
    .description('Draw the pipeline of a file: sources, operators with their state, sinks with their guarantees.')
    .argument('<file>', 'a .ts or .js file that exports a pipeline')
    .addOption(
      new Option('--format <FORMAT>', 'how it is drawn (default: by the ending of --out, else text)').choices(
        GRAPH_FORMATS,
      ),
    )
    .option('--out <PATH>', 'write it to a file, instead of standard output')
    .option('--pipeline <NAME>', 'which pipeline, when the file exports several')
    .addHelpText('after', PAGE)
    .action(async (file, options) => (await import('./graph/show-graph.ts')).showGraph(file, options))
}
