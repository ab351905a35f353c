/** Where a data directory is when nobody says. */
export const DEFAULT_DATA = '.millrace'

/** What `--log-level` may be, the most talkative first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** What `--format` of a graph may be. */
export const GRAPH_FORMATS = ['text', 'mermaid', 'svg'] as const
export type GraphFormat = (typeof GRAPH_FORMATS)[number]
