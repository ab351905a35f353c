import type { MemoryDisk } from '../../state/memory.ts'
import type { Variant } from './variant.ts'

/** Most bytes that the engine may let one record's row take. */
const ROW = 140

interface Known {
  readonly text: string
  readonly epoch: number
  readonly places: readonly number[]
  readonly watermarks: readonly number[]
}

/** Holds what a disk keeps to what must be so at any moment; look at it after each commit. */
export function createMonitor(disk: MemoryDisk, { lane, epoch, grows }: Variant, taken: ReadonlySet<string>) {
  const known = new Map<string, Known>()
  const violations: string[] = []
  const seen = (what: string) => {
    if (violations.length < 5) violations.push(what)
  }
  return {
    violations,
    look(): void {
      for (const name of disk.tasks()) {
        const task = disk.task(name)!
        checkBytes(name, [...task.batches.values()])
        const before = known.get(name)
        if (task.facts === undefined || task.facts === before?.text) continue
        const facts = JSON.parse(task.facts)
        const sources = Object.values(facts.sources) as { next: number; watermark: number | null; sealed: boolean }[]
        const now: Known = {
          text: task.facts,
          epoch: task.epoch,
          places: sources.map(({ next }) => next),
          watermarks: [
            ...sources.map(({ watermark, sealed }) => (sealed ? Number.NaN : watermark)),
            ...facts.watermarks,
          ].map((mark) => mark ?? -Infinity),
        }
        known.set(name, now)
        if (!before) continue
        if (now.epoch <= before.epoch) seen(`${name}: epoch ${before.epoch} was followed by ${now.epoch}`)
        if (now.places.some((place, i) => place < before.places[i]!)) seen(`${name}: a position went back`)
        // the end of a source that is read on after it is taken back
        if (
          now.watermarks.some(
            (mark, i) => mark < before.watermarks[i]! && !(grows && before.watermarks[i] === Number.MAX_VALUE),
          )
        )
          seen(`${name}: a watermark went back, from ${before.watermarks.join(', ')} to ${now.watermarks.join(', ')}`)
      }
    },
    /** What was known does not bear on what comes: an old store was put back, or a sealed source is read on. */
    forget(): void {
      known.clear()
    },
  }

  /** A paused lane holds what was under way when it was full: an epoch that was being made, and one being written. */
  function checkBytes(
    name: string,
    batches: readonly { name: string; group?: string; sink: string; body: Uint8Array }[],
  ): void {
    if (!lane) return
    // what has been delivered no longer counts, and goes with a later commit
    const left = batches.filter(
      ({ name: own, group = '', sink }) => sink === 'rows' && !taken.has(own) && !taken.has(group),
    )
    const bytes = left.reduce((sum, { body }) => sum + body.length, 0)
    const most = lane.bytes + (lane.whenFull === 'park' ? 0 : 2 * epoch.records * ROW)
    if (bytes > most) seen(`${name}: a lane whose bound is ${lane.bytes} holds ${bytes} bytes`)
  }
}
