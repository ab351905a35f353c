import { Command } from 'commander'
import { DEFAULT_DATA } from './defaults.ts'

const PAGE = `
Examples:
  millrace sql "SELECT type, count() AS events FROM events GROUP BY type ORDER BY events DESC"
  millrace sql "SHOW TABLES"
  millrace sql "SELECT * FROM events LIMIT 3" --json | jq .visitorId

It is ClickHouse's SQL, on the warehouse of the data directory, also while a pipeline runs.

Exit codes: 0 answered · 2 no warehouse there, or ClickHouse does not take the query · 3 the data directory ·
6 the warehouse does not start
`

/** `millrace sql QUERY`. */
export function sqlCommand(): Command {
  return new Command('sql')
    .description('Ask the embedded warehouse.')
    .argument('<query>', 'in the SQL of ClickHouse')
    .option('--data <DIR>', 'the data directory', DEFAULT_DATA)
    .option('--json', 'one line of JSON a row')
    .addHelpText('after', PAGE)
    .action(async (query, options) => (await import('./ask-warehouse.ts')).printAnswer(query, options))
}
