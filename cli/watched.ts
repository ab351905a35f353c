import { type Watcher, watchMade } from '../core/made.ts'
import type { Pipeline } from '../core/pipeline.ts'
import type { Place } from './check/finding.ts'
import { authorsLine, withDeepStacks } from './check/stack.ts'
import { loadPipelines } from './load-pipeline.ts'

/** The parts that were made while a file was loaded: sources, operators, streams, outputs, some sinks. */
export interface Parts {
  readonly all: readonly object[]
  /** The author's line that made a part. */
  siteOf(part: object): Place | undefined
  /** The options that a part was made with, where it tells. */
  optionsOf(part: object): Readonly<Record<string, unknown>> | undefined
}

/** The pipelines of a file, and what was made on the way to them. @throws MillraceError as `loadPipeline` does */
export async function loadWatched(file: string): Promise<{ pipelines: readonly Pipeline[]; parts: Parts }> {
  const sites = new Map<object, Place | undefined>()
  const options = new Map<object, object>()
  const watcher: Watcher = (part, given) => {
    if (given) options.set(part, given)
    if (!sites.has(part)) sites.set(part, authorsLine(withDeepStacks(() => new Error().stack)))
  }
  watchMade(watcher)
  try {
    const pipelines = [...(await loadPipelines(file)).keys()]
    return {
      pipelines,
      parts: {
        all: [...sites.keys()],
        siteOf: (part) => sites.get(part),
        optionsOf: (part) => options.get(part) as Readonly<Record<string, unknown>> | undefined,
      },
    }
  } finally {
    watchMade(undefined)
  }
}
