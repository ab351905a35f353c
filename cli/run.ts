import { Command, Option } from 'commander'
import { DEFAULT_DATA, LOG_LEVELS } from './defaults.ts'
import { storeOption } from './store-option.ts'

const PAGE = `
Examples:
  # the past: read a file to its end, and stop
  millrace run pipelines/cart-abandonment.ts --input shop.events=events.jsonl --until-end

  # from another program, with one line of JSON at the end
  zcat events.jsonl.gz | millrace run pipelines/cart-abandonment.ts --input shop.events=- --json

  # for ever, watched by Prometheus
  millrace run pipelines/cart-abandonment.ts --metrics 9464

  # four processes that share a topic's partitions, with their state in a Redis; SIGUSR2 starts them anew one by one
  KAFKA_BROKERS=kafka:9092 millrace run pipelines/cart-abandonment.ts --workers 4 --store redis://state:6379/0

What has no real system named in the environment (KAFKA_BROKERS, CLICKHOUSE_URL, REDIS_URL) works on a stand-in in the
data directory; the first line says which. Mails are captured in an outbox, unless --live is said.

It can be stopped at any moment, also by kill -9: the next start goes on where it was, and nothing is lost or doubled.
The first SIGTERM or Ctrl-C drains it, a second one ends it at once.

Exit codes: 0 ended or drained · 2 the command line or the pipeline file · 3 the data directory · 4 the state file ·
5 something changed under the stored state · 6 a source or a sink · 7 too much poison, or a rule broken · 8 another
worker took over · 129, 130, 143 ended at once by a second signal
`

/** `millrace run FILE`. */
export function runCommand(): Command {
  return new Command('run')
    .description('Run a pipeline file: read its sources, keep its state, feed its sinks, until the sources end.')
    .argument('<file>', 'a .ts or .js file that exports a pipeline')
    .option(
      '--input <NAME=PATH>',
      'feed a source from a file (JSON lines, .csv, .gz), or from - for standard input',
      many,
      [],
    )
    .option('--data <DIR>', 'where the state and the stand-ins are', DEFAULT_DATA)
    .addOption(storeOption())
    .option('--until-end', 'read what there is now, deliver it, and stop; otherwise wait for more')
    .option('--reopen', 'read on past the end that a source had come to')
    .option('--live', 'reach people; otherwise messages to them are captured in the outbox')
    .option('--require-real', 'refuse every stand-in')
    .option('--stand-in <SYSTEM>', 'allow the stand-in of a system, such as clickhouse, beside real ones', many, [])
    .option('--json', 'print one line of JSON at the end, and nothing else, on standard output')
    .option(
      '--workers <N>',
      'so many processes share the partitions; needs Kafka, which hands them out, and a --store that all reach',
    )
    .option(
      '--metrics <[HOST:]PORT>',
      'serve /metrics, /live, /ready and /health; port 0 takes a free one, and says which',
    )
    .option('--pipeline <NAME>', 'which pipeline, when the file exports several')
    .option('--drop-state <OPERATOR>', 'forget what an operator that is gone had remembered', many, [])
    .option('--rename-state <OLD=NEW>', 'an operator has another name now: its state goes with it', many, [])
    .option('--to-dead-letters', 'set batches of an output that is gone aside as dead letters')
    .option('--accept-older-state', 'go on from a state file that is older than it should be: sinks may get rows twice')
    .addOption(new Option('--log-level <LEVEL>', 'how much is logged').choices(LOG_LEVELS).default('info'))
    .addHelpText('after', PAGE)
    .action(async (file, options) => (await import('./run-file.ts')).runFile(file, options))
}

function many(value: string, before: readonly string[]): readonly string[] {
  return [...before, value]
}
