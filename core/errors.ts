/** Every code that a Millrace error can carry, with what it means and the exit code of a command that ends with it. */
export const ERROR_CODES = {
  BAD_OPTION: { exit: 2, meaning: 'An option, a duration or a name is not of the form that is wanted.' },
  BAD_PIPELINE: { exit: 2, meaning: 'The pipeline file does not load, or the pipeline it builds cannot run.' },
  NOT_FOUND: { exit: 2, meaning: 'A file, a folder, a table or a name that was asked for is not there.' },
  PORT_IN_USE: { exit: 2, meaning: 'The port for metrics is taken by another program.' },
  STAND_IN_REFUSED: { exit: 2, meaning: 'A real system was required, and only a stand-in could be had.' },
  DATA_DIR_IN_USE: { exit: 3, meaning: 'Another worker holds the data directory.' },
  DATA_DIR_UNWRITABLE: { exit: 3, meaning: 'The data directory cannot be written.' },
  DISK_FULL: { exit: 3, meaning: 'There is no room left for a commit; nothing was lost.' },
  STATE_DAMAGED: { exit: 4, meaning: 'The state file fails its checksums.' },
  STATE_FAILED: { exit: 4, meaning: 'The disk reports an error at the state file.' },
  STATE_BEHIND: {
    exit: 4,
    meaning: 'The state file is older than its witness: an old copy was put back, or commits were lost.',
  },
  STATE_TOO_NEW: { exit: 4, meaning: 'The state file was written by a newer version of Millrace.' },
  STATE_TOO_LARGE: { exit: 4, meaning: "A task's state, or one value of it, has passed its limit." },
  TOPOLOGY_CHANGED: {
    exit: 5,
    meaning: 'The pipeline changed so that stored state or staged batches would be orphaned.',
  },
  LOG_DAMAGED: { exit: 4, meaning: 'A partition of the embedded log fails its checksums.' },
  SOURCE_CHANGED: { exit: 5, meaning: 'A source is not the one that the stored position belongs to.' },
  SOURCE_SEALED: { exit: 5, meaning: 'A source that was read to its end has grown since.' },
  SINK_CHANGED: { exit: 5, meaning: 'A sink is not the system that its staged batches belong to.' },
  SOURCE_FAILED: { exit: 6, meaning: 'A source cannot be read.' },
  SINK_FAILED: { exit: 6, meaning: 'A sink cannot be opened, or its table does not fit.' },
  SINK_REJECTED: { exit: 6, meaning: 'A sink refused rows for good.' },
  POISONED: {
    exit: 7,
    meaning:
      'Too many records of a partition are poison; the pipeline stopped rather than empty it into the dead letters.',
  },
  FLOW_BROKE_RULES: { exit: 7, meaning: 'An operator did what no operator may do inside a pipeline.' },
  FENCED: { exit: 8, meaning: 'Another worker took the task over.' },
  UNDECODABLE: { exit: 1, meaning: "A record's bytes do not decode, or do not fit the schema." },
  OPERATOR_THREW: { exit: 1, meaning: "A function of the pipeline's author threw." },
  NOT_JSON: { exit: 1, meaning: 'A value that must be kept is not JSON.' },
  TIMED_OUT: { exit: 1, meaning: 'An asynchronous call did not answer within its time.' },
  INTERNAL: { exit: 70, meaning: 'A defect of Millrace itself.' },
} as const satisfies Record<string, { exit: number; meaning: string }>

/** A stable name of what went wrong; the list is {@link ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES

/**
 * The one error of Millrace: a stable `code`, a message that says where, what, and what to do next, and whether the
 * same call may succeed later. Payloads and secrets stay out of messages.
 */
export class MillraceError extends Error {
  override readonly name = 'MillraceError'
  readonly code: ErrorCode
  readonly retriable: boolean

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retriable?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retriable = options.retriable ?? false
  }
}

/** The text of anything that was thrown, without its stack. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message === '' ? thrown.name : thrown.message
  return typeof thrown === 'string' ? thrown : `a thrown ${thrown === null ? 'null' : typeof thrown}`
}
