import type { ErrorCode } from '../../core/errors.ts'

/**
 * How much a finding weighs: `error`, the pipeline does not start, or gives wrong results; `warning`, it will one day;
 * `note`, it is as it should be if it was meant so.
 */
export type Level = 'error' | 'warning' | 'note'

/** Every code of a finding that is no error's code, with how much it weighs and what it means. */
export const FINDINGS = {
  TYPES: ['error', 'The compiler refuses the file.'],
  HIDDEN_STATE: ['error', 'Something is kept between records where the engine cannot keep it.'],
  WALL_CLOCK: ['error', "The machine's clock is asked within the flow."],
  CHANCE: ['error', "The machine's randomness is asked within the flow."],
  SIDE_EFFECT: ['error', 'The flow does something to the world before its epoch is committed.'],
  MUTATION: ['error', 'A value that others hold, too, is changed.'],
  PROMISE: ['error', 'A promise is given where a value is wanted.'],
  RXJS_STATE: ['error', 'An RxJS operator keeps something between records, or works by a clock.'],
  STATE_ORPHANED: ['error', 'The data directory holds state of an operator that the pipeline no longer has.'],
  STATE_SHAPE: ['error', 'A stored state does not fit the schema of its operator.'],
  SOURCE_GONE: ['error', 'The data directory holds the position of a source that the pipeline no longer reads.'],
  OUTPUT_GONE: ['error', 'Batches are staged for an output that the pipeline no longer has.'],
  KEY_MISSING: ['error', 'The key of a record is missing.'],
  TIME_UNUSABLE: ['error', 'The time of a record is no number of milliseconds.'],
  STREAM_UNUSED: ['warning', 'A stream is made, and goes nowhere.'],
  OUTPUT_UNUSED: ['warning', 'A branch ends in a sink, but is no output of a pipeline.'],
  LATENESS_MISSING: ['warning', 'Timers fire at the first newer record, because no disorder is allowed for.'],
  REPEATS_REACH_PEOPLE: ['warning', 'A record that comes twice makes a message that goes out twice.'],
  PEOPLE_UNGUARDED: ['warning', 'A sink that cannot tell a repeat reaches people.'],
  STATE_UNBOUNDED: ['warning', 'State is kept for years.'],
  KEY_APART: ['error', 'Records of one key are in several partitions, each of which counts its own.'],
  KEY_CONSTANT: ['warning', 'All records have one key.'],
  BY_CONSTANT: ['warning', '`by` gives the same for all records.'],
  ROW_REFUSED: ['warning', 'A record of the sample makes a row that the sink does not take.'],
  THROWS: ['warning', 'A record of the sample makes a function throw.'],
  SAMPLE_UNFIT: ['warning', 'Many records of the input do not fit the schema.'],
  BY_IS_FINER: ['note', '`by` divides the state of a key; it does not bring keys together.'],
  AT_LEAST_ONCE: ['note', 'A sink cannot tell a repeat, or only for a while.'],
  KEPT_FOREVER: ['note', 'A sink keeps its keys for ever.'],
  CALLS_NOT_MADE: ['note', 'Asynchronous calls are not made, and what is behind them is not tried.'],
  SAMPLE_NEEDED: ['note', 'The flow was not tried, because no records could be made for it.'],
  OUTPUT_EMPTY: ['note', 'No record of the input reached an output.'],
} as const satisfies Record<string, readonly [Level, string]>

export type FindingCode = keyof typeof FINDINGS | ErrorCode

/** A line of a file. */
export interface Place {
  /** Absolute path. */
  readonly file: string
  /** From 1; 0 when it is not known. */
  readonly line: number
}

/** What is wrong, where, and what to write instead. */
export interface Finding extends Place {
  readonly code: FindingCode
  readonly level: Level
  /** The operator, source or output that it is about. */
  readonly operator: string | null
  readonly problem: string
  readonly instead: string
}

/** What a finding is made of; its level is its code's. */
export interface FindingParts {
  readonly code: FindingCode
  readonly place: Place | undefined
  readonly operator?: string | undefined
  readonly problem: string
  readonly instead: string
}

/** Collects findings, each once a line. */
export class Findings {
  private readonly byPlace = new Map<string, Finding>()
  private readonly file: string

  /** @param file absolute path of the pipeline file, for what has no place of its own */
  constructor(file: string) {
    this.file = file
  }

  add({ code, place = { file: this.file, line: 0 }, operator, problem, instead }: FindingParts): void {
    const level = code in FINDINGS ? FINDINGS[code as keyof typeof FINDINGS][0] : 'error'
    const id = `${code} ${place.file}:${place.line === 0 ? problem : place.line}`
    if (this.byPlace.has(id)) return
    this.byPlace.set(id, { code, level, ...place, operator: operator ?? null, problem, instead })
  }

  has(code: FindingCode, place: Place | undefined): boolean {
    return place !== undefined && this.byPlace.has(`${code} ${place.file}:${place.line}`)
  }

  /** Whether a file has a finding of this code. */
  within(code: FindingCode, file: string | undefined): boolean {
    return this.byPlace.values().some((finding) => finding.code === code && finding.file === file)
  }

  /** The heaviest first, then by place. */
  all(): Finding[] {
    const weight = { error: 0, warning: 1, note: 2 }
    return [...this.byPlace.values()].sort(
      (a, b) => weight[a.level] - weight[b.level] || (a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line),
    )
  }
}
