import { Command } from 'commander'

const PAGE = `
Examples:
  millrace docs                 what there is
  millrace docs absence         one operator, source or sink
  millrace docs fromKafka
  millrace docs errors          all error codes

In a pipe it is the page's Markdown.

Exit codes: 0 shown · 2 there is no such page
`

/** `millrace docs [NAME]`. */
export function docsCommand(): Command {
  return new Command('docs')
    .description('Explain an operator, a source or a sink.')
    .argument('[name]', 'its name, as it is imported')
    .addHelpText('after', PAGE)
    .action(async (name) => (await import('./show-docs.ts')).printDocs(name))
}
