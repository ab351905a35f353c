import { overview } from './overview.ts'

/** The text of each dashboard, by the name of its file in this folder. */
export function dashboards(): ReadonlyMap<string, string> {
  return new Map([['overview.json', `${JSON.stringify(overview(), null, 2)}\n`]])
}
