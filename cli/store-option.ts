import { Option } from 'commander'

/** `--store`, or else the environment's. */
export function storeOption(): Option {
  return new Option(
    '--store <URL>',
    'where the state is, when workers share it: a Redis, such as redis://host:6379; otherwise it is in the data directory',
  ).env('MILLRACE_STORE')
}
